"""Tables as text for the terminal and as CSV for programs."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from invdiff.app.comparison.sheets import Sheet

FLAT = (
    "figure", "of", "against", "attribute", "prompt", "class", "value", "low", "high",
    "low_over_prompts", "high_over_prompts", "images", "reference_images", "count", "extractor",
    "extractor_sha256", "protocol", "seed", "versions", "note",
)  # fmt: skip


def sheet_text(sheet: Sheet) -> str:
    """A table for a terminal, without its note."""
    rows = [["", *sheet.columns]]
    rows += [[label, *(one.plain for one in cells)] for label, cells in sheet.rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
    return "\n".join([sheet.title, *(f"  {line}" for line in lines)])


def sheet_csv(sheet: Sheet) -> str:
    """Numbers at full precision: for each column its value and the ends of its interval."""
    head = [f"{name}{end}" for name in sheet.columns for end in ("", " low", " high")]
    rows: list[list[object]] = [["", *head]]
    for label, cells in sheet.rows:
        known = [(q.value, q.low, q.high) for q in (one.quantity for one in cells)]
        rows.append([label, *("" if v is None else v for row in known for v in row)])
    return _csv(rows)


def figures_csv(figures: Sequence[Mapping[str, Any]]) -> str:
    """Every figure, one line each."""
    rows = [[figure.get(name, "") for name in FLAT] for figure in figures]
    clean = [["" if value is None or value != value else value for value in row] for row in rows]
    return _csv([list(FLAT), *clean])


def _csv(rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
