"""A page as its reader has it: elements, text, tables by title, drawings."""

import base64
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input"}
SVG = "data:image/svg+xml;base64,"


class Page(HTMLParser):
    """Every element with its attributes, and the text that a reader sees.

    ``tables`` are title -> name of a row -> its cells, small print after the value; ``findings``
    the sentences of the summary by what they are about.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.seen: list[str] = []
        self.tables: dict[str, dict[str, list[str]]] = {}
        self.findings: dict[str, str] = {}
        self.row: list[list[str]] = []
        self.item: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.seen).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.title = dict(attrs)["aria-label"] or ""
            self.tables[self.title] = {}
        if tag == "tr":
            self.row = []
        if tag == "li":
            self.item = []
        if tag in ("td", "th"):
            self.row.append([])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "tr":
            name, *cells = (" ".join(" ".join(cell).split()) for cell in self.row)
            self.tables[self.title][name] = cells
        if tag == "li" and len(self.item) > 1:
            self.findings[self.item[0]] = " ".join(" ".join(self.item[1:]).split())

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.seen.append(data)
        if "li" in self.open and data.strip():
            self.item.append(data)
        if {"td", "th"} & set(self.open):
            self.row[-1].append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def pictures(self) -> list[dict[str, str | None]]:
        """Grids of pictures."""
        return [image for image in self.all("img") if "webp" in (image["src"] or "")[:20]]

    @property
    def drawings(self) -> dict[str, str]:
        """What is said of a drawing -> its SVG text."""
        sources = {image["alt"] or "": image["src"] or "" for image in self.all("img")}
        return {alt: svg_text(src) for alt, src in sources.items() if src.startswith(SVG)}


def svg_text(uri: str) -> str:
    """The text of an SVG picture inside a page."""
    return base64.b64decode(uri.removeprefix(SVG)).decode("utf-8")
