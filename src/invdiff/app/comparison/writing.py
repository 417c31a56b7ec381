"""Tables as text for the terminal, as CSV for programs, as LaTeX for papers."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from invdiff.app.comparison.sheets import Entry, Sheet

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{one: f"\\{one}" for one in "&%$#_{}"},
}
FLAT = (
    "figure", "of", "against", "attribute", "prompt", "class", "value", "low", "high",
    "low_over_prompts", "high_over_prompts", "images", "reference_images", "count", "extractor",
    "extractor_sha256", "protocol", "seed", "versions", "note",
)  # fmt: skip


def as_text(sheet: Sheet) -> str:
    """A table for a terminal, without its note."""
    rows = [["", *sheet.columns]]
    rows += [[label, *(_plain(one) for one in entries)] for label, entries in sheet.rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
    return "\n".join([sheet.title, *(f"  {line}" for line in lines)])


def as_csv(sheet: Sheet) -> str:
    """Numbers at full precision: for each column its value and the ends of its interval."""
    head = [f"{name}{end}" for name in sheet.columns for end in ("", " low", " high")]
    rows: list[list[object]] = [["", *head]]
    for label, entries in sheet.rows:
        values = [(e.estimate.value, e.estimate.low, e.estimate.high) for e in entries]
        rows.append([label, *("" if v is None else v for row in values for v in row)])
    return _csv(rows)


def figures_csv(figures: Sequence[Mapping[str, Any]]) -> str:
    """Every figure, one line each."""
    rows = [[figure.get(name, "") for name in FLAT] for figure in figures]
    clean = [["" if value is None or value != value else value for value in row] for row in rows]
    return _csv([list(FLAT), *clean])


def as_latex(sheet: Sheet) -> str:
    """A ``table`` for the booktabs package, with title and note as caption."""
    rows = [
        " & ".join([latex(label), *(latex(_plain(one)) for one in entries)]) + r" \\"
        for label, entries in sheet.rows
    ]
    head = " & ".join(["", *map(latex, sheet.columns)]) + r" \\"
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(sheet.title)}. {latex(sheet.note)}}}",
            rf"\label{{tab:{sheet.key}}}",
            rf"\begin{{tabular}}{{l{'r' * len(sheet.columns)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def as_markdown(sheet: Sheet) -> str:
    """A table for a model card."""
    lines = [["", *sheet.columns], ["---", *("---:" for _ in sheet.columns)]]
    lines += [[label, *(_plain(one) for one in entries)] for label, entries in sheet.rows]
    return "\n".join("| " + " | ".join(c.replace("|", r"\|") for c in row) + " |" for row in lines)


def latex(text: str) -> str:
    """Text with the characters that mean something to LaTeX escaped."""
    return re.sub(r"[\\~^&%$#_{}]", lambda match: _SPECIAL[match.group()], text)


def _plain(entry: Entry) -> str:
    cell = entry.cell
    return f"{cell.text} [{cell.detail}]" if cell.detail else cell.text


def _csv(rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
