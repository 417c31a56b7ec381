"""The figures of a comparison as tables, once, for the terminal, the page, CSV and LaTeX."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import indent
from typing import Any

from invdiff.app.comparison.figures import EACH, ComparisonFigures
from invdiff.app.report.quantities import Quantity, decimal, percent, span, whole_number
from invdiff.app.report.rendering import render
from invdiff.terminal import aligned

DISTANCES = {
    "frechet": "Fréchet distance",
    "kid": "KID x 1000",
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
}
OF_EACH = {
    "diversity": "Diversity",
    "clip_t": "CLIP-T",
    "prompt_fidelity": "Prompt fidelity",
    "explicit_fidelity": "Fidelity where the prompt names the class",
    "explicit_kept": "Kept where the prompt names the class and the first set shows it",
}
BESIDE_BIAS = {
    "normalised": "Normalised",
    "corrected": "Bias-corrected",
    "error_corrected": "Classifier-corrected",
    "parity_value": "At parity",
}
DIGITS = {"frechet": 2, "kid": 2, "clip_t": 1, "bias": 2}  # others have 3
FLAT = (
    "figure", "of", "against", "attribute", "prompt", "class", "value", "low", "high",
    "low_over_prompts", "high_over_prompts", "images", "reference_images", "count", "extractor",
    "extractor_sha256", "protocol", "seed", "versions", "note",
)  # fmt: skip


@dataclass(frozen=True)
class SheetCell:
    """One cell: a quantity and how it is written; ``remark`` after its interval."""

    quantity: Quantity = field(default_factory=Quantity)
    digits: int = 2
    as_percent: bool = False
    remark: str = ""

    @property
    def text(self) -> str:
        """The value as it is shown."""
        if self.quantity.value is None:
            return "\N{EN DASH}"
        write = percent if self.as_percent else decimal
        return write(self.quantity.value, 0 if self.as_percent else self.digits)

    @property
    def detail(self) -> str:
        """Its interval and remark."""
        if self.quantity.value is None:
            return ""
        interval = span(self.quantity, 0 if self.as_percent else self.digits, self.as_percent)
        return "; ".join(filter(None, (interval, self.remark)))

    @property
    def plain(self) -> str:
        """Both, where there is no small print."""
        return f"{self.text} [{self.detail}]" if self.detail else self.text


@dataclass(frozen=True)
class Sheet:
    """One table: ``key`` names its files, every row is a label and a cell for each column."""

    kind: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[SheetCell, ...]], ...]
    attribute: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)  # what its note tells

    @property
    def key(self) -> str:
        """Its kind and attribute in small letters and hyphens."""
        text = f"{self.kind} {self.attribute}"
        return "-".join("".join(c if c.isalnum() else " " for c in text).lower().split())

    @property
    def note(self) -> str:
        """How it is to be read."""
        return render("sheet_note.txt.j2", {"sheet": self}).strip()


def sheets(record: Mapping[str, Any]) -> list[Sheet]:
    """All tables for which something was measured."""
    figures = ComparisonFigures(record)
    names = {of: facts["name"] for of, facts in record["sets"].items()}
    if len(set(names.values())) < len(names):
        names = {of: f"{name} ({of.upper()})" for of, name in names.items()}
    names["b - a"] = "difference"
    made = [_distances(figures, names), _of_each(figures, names)]
    for attribute in figures.values("attribute", "share"):
        made += [_bias(figures, attribute, names), _shares(figures, attribute, names)]
    return [sheet for sheet in made if sheet.rows]


def _distances(figures: ComparisonFigures, names: Mapping[str, str]) -> Sheet:
    extractors = tuple(figures.record["extractors"])
    against = figures.compared_with
    columns = EACH if against == "reference" else ("b",)
    rows = []
    for extractor, (name, label) in [(e, one) for e in extractors for one in DISTANCES.items()]:
        if not any(figures.find(name, of, extractor=extractor) for of in columns):
            continue
        digits = DIGITS.get(name, 3)
        cells = [
            SheetCell(figures.quantity(name, of, extractor=extractor), digits) for of in columns
        ]
        if against == "a":
            far = figures.quantity(name, "b", "_over_prompts", extractor=extractor)
            cells.append(SheetCell(far, digits) if far.has_interval else SheetCell())
        rows.append((f"{label}, {extractor}" if len(extractors) > 1 else label, tuple(cells)))
    head = tuple(names[of] for of in columns)
    head += ("for prompts like these",) if against == "a" else ()
    title = f"Compared with {names[against]}"
    return Sheet("distances", title, head, tuple(rows), about={"extractors": extractors})


def _of_each(figures: ComparisonFigures, names: Mapping[str, str]) -> Sheet:
    several = len(figures.record["extractors"]) > 1
    rows = []
    for name, label in OF_EACH.items():
        for extractor in figures.values("extractor", name):
            where = {"extractor": extractor} if extractor else {}
            found = figures.of_each(name, **where)
            cells = tuple(SheetCell(one, DIGITS.get(name, 3)) for one in found)
            rows.append((f"{label}, {extractor}" if several and extractor else label, cells))
    return Sheet("sets", "Of each set", tuple(names[of] for of in EACH), tuple(rows))


def _bias(figures: ComparisonFigures, attribute: str, names: Mapping[str, str]) -> Sheet:
    where = {"attribute": attribute}
    bias = [figures.find("bias", of, **where) or {} for of in EACH[:2]]
    rows: list[tuple[str, tuple[SheetCell, ...]]] = []
    if any(bias):
        rows.append(("Bias", tuple(map(SheetCell, figures.of_each("bias", **where)))))
    for key, label in BESIDE_BIAS.items():
        ends = {"value": key, "low": f"{key}_low", "high": f"{key}_high"}
        known = [Quantity.of({end: one.get(name) for end, name in ends.items()}) for one in bias]
        if any(one.value is not None for one in known):
            rows.append((label, (*map(SheetCell, known), SheetCell())))
    others = {
        "off_target": "Distance from the target mix",
        "worst_prompt": "Bias of the worst prompt",
    }
    for name, label in others.items() if rows else ():
        cells = [
            SheetCell(figures.quantity(name, of, **where), remark=one.get("prompt", ""))
            for of in EACH[:2]
            for one in [figures.find(name, of, **where) or {}]
        ]
        if figures.sets_of(name):
            rows.append((label, (*cells, SheetCell())))
    about = {"images": [one.get("images") for one in bias]}
    head = tuple(names[of] for of in EACH)
    return Sheet("bias", f"Bias of {attribute}", head, tuple(rows), attribute, about)


def _shares(figures: ComparisonFigures, attribute: str, names: Mapping[str, str]) -> Sheet:
    rows = []
    for prompt in figures.values("prompt", "share", attribute=attribute):
        for klass in figures.values("class", "share", attribute=attribute, prompt=prompt):
            where = {"attribute": attribute, "prompt": prompt, "class": klass}
            cells = []
            for of in EACH[:2]:
                one = figures.quantity("share", of, **where)
                counted = f"{whole_number(one.count)} of {whole_number(one.images)}"
                cells.append(SheetCell(one, as_percent=True, remark=counted))
            rows.append((f"{prompt}: {klass}", tuple(cells)))
    head = tuple(names[of] for of in EACH[:2])
    return Sheet("shares", f"Shares of {attribute}", head, tuple(rows), attribute)


def sheet_text(sheet: Sheet) -> str:
    """A table for a terminal, without its note."""
    rows = [[label, *(one.plain for one in cells)] for label, cells in sheet.rows]
    return f"{sheet.title}\n{indent(aligned([['', *sheet.columns], *rows]), '  ')}"


def sheet_csv(sheet: Sheet) -> str:
    """Numbers at full precision: for each column its value and the ends of its interval."""
    head = [f"{name}{end}" for name in sheet.columns for end in ("", " low", " high")]
    rows: list[list[object]] = [["", *head]]
    for label, cells in sheet.rows:
        known = [(q.value, q.low, q.high) for q in (one.quantity for one in cells)]
        rows.append([label, *(end for row in known for end in row)])
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
