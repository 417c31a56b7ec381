"""The templates of pages and cards, and how they write numbers."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from invdiff.app.report.quantities import FILTERS
from invdiff.errors import printable

APP = Path(__file__).parent.parent
ROOMS = ("report", "comparison", "cli")


@cache
def templates() -> Environment:
    """The templates of pages, cards and the terminal; what is put into a page is escaped.

    Markdown, LaTeX and plain text are not: their templates use ``markdown_cell`` and ``latex``.
    Characters that cannot be seen are written as their escapes in all of them.
    """
    made = Environment(
        loader=FileSystemLoader([APP / room / "templates" for room in ROOMS]),
        autoescape=select_autoescape(("html.j2", "css"), default=False),
        undefined=StrictUndefined,
        finalize=lambda value: printable(value, keep="\n\t") if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= FILTERS
    return made


def render(template: str, context: Mapping[str, Any]) -> str:
    """One template as text that ends with one line break."""
    return templates().get_template(template).render(context).strip() + "\n"


def render_lines(template: str, context: Mapping[str, Any]) -> list[str]:
    """The lines of a template of plain text that are not empty."""
    return [line for line in render(template, context).splitlines() if line.strip()]
