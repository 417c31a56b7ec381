"""Tables for people: numbers as text, Markdown pages from the templates in ``pages``, the files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from invdiff.engine.storage.files import write_json, write_text

LIBRARIES = ("invdiff", "torch", "diffusers", "transformers", "peft", "numpy")
NOTHING = "\N{EN DASH}"
INTERVAL = "{value} [{low}, {high}]"
RANGE = "{value} ({lowest}..{highest})"
ENDS = "{lowest}..{highest}"
COUNTED = "{total} of {count}"


class Column(NamedTuple):
    """A column of a table: what of a summary it shows, and how.

    ``pattern`` is filled with the columns of the summary; an interval or a range without its ends
    is the value alone. ``only`` are values that other columns of the summary must have.
    """

    head: str
    metric: str
    pattern: str = "{value}"
    digits: int = 2
    only: Mapping[str, Any] = {}

    def texts(self, summary: pd.DataFrame, keys: list[str]) -> pd.Series:
        """One text for each line of the summary that it shows, by ``keys``."""
        own = where(summary, metric=self.metric, **self.only)
        texts = [self.text(line) for line in own.to_dict("records")]
        return pd.Series(texts, own.set_index(keys).index, dtype=object)

    def text(self, line: Mapping[str, Any]) -> str:
        """The text of one line."""
        digits = {"total": None, "count": None}
        parts = {
            key: value if isinstance(value, str) else number(value, digits.get(key, self.digits))
            for key, value in line.items()
            if f"{{{key}}}" in self.pattern
        }
        alone = parts.get("value", parts.get("lowest", ""))
        if self.pattern in (RANGE, ENDS) and parts["lowest"] == parts["highest"]:
            return alone
        return alone if NOTHING in parts.values() else self.pattern.format(**parts)


def shown_table(summary: pd.DataFrame, names: pd.Series, columns: Iterable[Column]) -> pd.DataFrame:
    """A table of texts whose lines are those of ``names``, which are its first column."""
    keys = list(names.index.names)
    found = {column.head: column.texts(summary, keys) for column in columns}
    return pd.DataFrame({names.name: names, **found}, index=names.index)


def labels(rows: pd.DataFrame, keys: list[str], of: int, scale: float | None = None) -> pd.Series:
    """The last of ``keys``, with how many seeds were drawn at ``scale`` if fewer than ``of``."""
    seeds = rows["seed"] if scale is None else rows["seed"].where(rows["scale"] == scale)
    drawn = seeds.groupby([rows[key] for key in keys], sort=False).nunique()
    names = drawn.index.get_level_values(-1)
    texts = [label(name, count, of) for name, count in zip(names, drawn, strict=True)]
    return pd.Series(texts, drawn.index, name=keys[-1])


def label(name: str, seeds: int, of: int) -> str:
    """A name, with how many seeds it has if that is fewer than ``of``."""
    return name if seeds == of else f"{name} ({seeds} of {of} seeds)"


def where(summary: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The lines whose columns have the ``wanted`` values."""
    for name, value in wanted.items():
        summary = summary[summary[name] == value]
    return summary


def number(value: float, digits: int | None = 2) -> str:
    """A number with so many digits, or as short as it is; a dash for NaN."""
    if pd.isna(value):
        return NOTHING
    if digits is None:
        return f"{value:g}"
    return f"{value:z.{digits}f}" if digits else f"{value:,.0f}"  # z: no minus before 0.00


def listed(items: Iterable[Any]) -> str:
    """The items with commas between them."""
    return ", ".join(map(str, items))


def publish(
    out: Path,
    rows: pd.DataFrame,
    record: Mapping[str, Any],
    context: Mapping[str, Any],
    template: str,
    names: Sequence[str] = ("table", "table", "summary"),
) -> Path:
    """Write page, tidy ``rows`` and ``record`` by ``names`` into ``out``; returns the page's path.

    The ``template`` has the record and the ``context``, in which tables are Markdown.
    """
    page, numbers, summary = names
    write_text(out / f"{numbers}.csv", rows.to_csv(index=False, lineterminator="\n"))
    write_json(out / f"{summary}.json", record)
    return write_text(out / f"{page}.md", render_page(template, {**record, **context}))


def markdown(cells: pd.DataFrame, words: int = 1) -> str:
    """A table as Markdown, its columns but the first ``words`` being numbers; NaN is a dash."""
    sides = ["left"] * words + ["right"] * (len(cells.columns) - words)
    text: str = cells.fillna(NOTHING).to_markdown(
        index=False, disable_numparse=True, colalign=sides
    )
    return text


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """The page of a template, with one empty line between its blocks."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "pages"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["table"] = markdown
    pages.filters["listed"] = listed
    versions = context["versions"]
    known = listed(f"{name} {versions[name]}" for name in LIBRARIES if versions.get(name))
    text = pages.get_template(f"{template}.md.j2").render({**context, "libraries": known})
    blocks = (block.strip("\n") for block in text.split("\n\n"))
    return "\n\n".join(block for block in blocks if block) + "\n"
