"""What a source of pictures holds, before anything is decoded: its rows and their columns."""

import json
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from invdiff.data.pictures import BadPicture, StoredAs, decode, one_line, stored_as
from invdiff.data.samples import Pictures, pick_caption, plural
from invdiff.errors import DataError
from invdiff.terminal import Bar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceTable:
    """Named columns of one length. `values(column)` reads one of `columns` and no other."""

    path: Path
    columns: tuple[str, ...]
    values: Callable[[str], list[object]]

    def read(self, column: str) -> list[object]:
        """A column as it is stored. DataError when there is none of this name."""
        if column not in self.columns:
            raise DataError(f"{self.path} has no column {column!r}{hint(column, self.columns)}")
        return self.values(column)

    def text(self, column: str) -> list[str]:
        """A column as text, "" where there is no value. DataError when it is missing or nested."""
        return [self._as_text(value, column) for value in self.read(column)]

    def texts(self, column: str) -> list[tuple[str, ...]]:
        """A column whose values may be lists of text: all texts of each row, perhaps none."""
        rows = [one if isinstance(one, list | tuple) else (one,) for one in self.read(column)]
        return [tuple(self._as_text(value, column) for value in row) for row in rows]

    def labels(self, column: str) -> list[str]:
        """A column of labels in one spelling each, "" where there is none."""
        return one_spelling(self.text(column), f"column {column!r} of {self.path}")

    def filled(self, column: str, values: Sequence[str]) -> tuple[str, ...]:
        """Values of a column as they are; DataError when some are lacking."""
        if empty := list(values).count(""):
            raise DataError(
                f"{empty} of {len(values)} pictures have no value in column {column!r} of "
                f"{self.path}; fill them in, or leave out those pictures"
            )
        return tuple(values)

    def _as_text(self, value: object, column: str) -> str:
        if value is None or value != value:  # only NaN differs from itself
            return ""
        if isinstance(value, str | int | float):
            return str(value)
        kind = type(value).__name__
        raise DataError(
            f"column {column!r} of {self.path} holds values of type {kind}; "
            "only text and numbers can be used, one value in each row"
        )


@dataclass(frozen=True)
class Listing:
    """Rows of a source: where each picture is, its columns, and how to get at it.

    `load(row)` returns the bytes that identify the picture and `decode(bytes, size)` its pixels
    (size, size, 3); both raise BadPicture. `stored_as(bytes)` is what its header tells. `faults`
    holds rows known to be unusable from the start, `told` what else whoever opens the source must
    know, such as files in it that are no rows.
    """

    names: Sequence[str]
    table: SourceTable
    load: Callable[[int], bytes]
    decode: Callable[[bytes, int], Pictures] = decode
    stored_as: Callable[[bytes], StoredAs] = stored_as
    faults: Mapping[int, BadPicture] = field(default_factory=dict)
    told: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, what: str) -> Bar:
        """The numbers of the rows, with a bar when someone watches."""
        return Bar(range(len(self)), desc=what, unit=" pictures", disable=None, leave=False)

    def content(self, row: int) -> bytes:
        """The bytes of the picture in a row. Raises BadPicture."""
        fault = self.faults.get(row)
        if fault is not None and fault.kind == "missing":
            raise fault
        try:
            return self.load(row)
        except FileNotFoundError:
            raise BadPicture("the file is missing", "missing") from None
        except OSError as error:
            raise BadPicture(f"cannot be read: {error.strerror or one_line(error)}") from error

    def caption(self, row: int, captions: Sequence[str], content: bytes, need: bool = True) -> str:
        """The caption that a row is used with. Raises BadPicture when it has none but needs one."""
        if row in self.faults:
            raise self.faults[row]
        caption = pick_caption(captions, content)
        if need and not caption:
            raise BadPicture("its prompt is empty", "no caption")
        return caption


MISSING = ("", "nan", "<na>", "null", "n/a")
"""What tables write where there is no value, as :func:`look` sees it."""


def one_spelling(values: Sequence[str], what: str, known: Sequence[str] = ()) -> list[str]:
    """Labels as they are compared, on every path: those that look alike are one label, and told.

    White space, case, dashes and invisible characters make no other label. The spelling is that of
    ``known`` labels, else the most frequent one. What tables write for a missing value is none, but
    for `None`, which people mean (glasses: None).
    """
    cleaned = [" ".join(value.split()) for value in values]
    counts = Counter(one for one in cleaned if look(one) not in MISSING)
    spelling = {look(one): one for one in known}
    for one in sorted(counts, key=lambda one: (-counts[one], one)):
        spelling.setdefault(look(one), one)
    others = [one for one in counts if spelling[look(one)] != one]
    if others:
        told = ", ".join(f"{one!r} ({counts[one]}) as {spelling[look(one)]!r}" for one in others)
        warn_once(f"{what}: labels that look alike are one: {told}")
    return [spelling.get(look(one), "") for one in cleaned]


@lru_cache(maxsize=4096)
def look(label: str) -> str:
    """What a reader sees of a label, whatever its characters are."""
    seen = unicodedata.normalize("NFKC", label).casefold()
    seen = "".join(one for one in seen if unicodedata.category(one) != "Cf")
    seen = re.sub(r"(?<=\w)[\s_\-\u2010-\u2015]+(?=\w)", " ", seen)
    return re.sub(r"^(-?\d+)\.0+$", r"\1", " ".join(seen.split()))


@cache
def warn_once(text: str) -> None:
    """A warning line; every stage opens the data again, and one line is enough."""
    logger.warning("%s", text)


def json_row(text: str) -> Any:
    """JSON in which no key stands twice, where the last would count; ValueError for other text."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        row: dict[str, object] = {}
        for key, value in pairs:
            if key in row:
                raise ValueError(f"{key!r} stands in it twice")
            row[key] = value
        return row

    return json.loads(text, object_pairs_hook=once)


def several(text: str) -> str | list[str]:
    """The text of a caption file; its lines, of which each is a caption, where it has several.

    ValueError for null characters: UTF-16 without its mark decodes as UTF-8 with these in between.
    """
    if "\0" in text:
        raise ValueError("it holds null bytes, as UTF-16 does, and is not UTF-8 text")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines if len(lines) > 1 else "".join(lines)


def told_of(left: Sequence[tuple[str, str]], texts: Sequence[object] = ()) -> list[str]:
    """What to tell of files that are no rows, and of the texts of caption files."""
    lines = [f"left out {plural(len(left), 'file')}: {first_few(left)}"] if left else []
    if many := sum(isinstance(one, list) for one in texts):
        lines.append(
            f"{plural(many, 'caption file')} with several lines: each line is a caption, and the "
            "bytes of the picture choose one"
        )
    return lines


def first_few(entries: Sequence[tuple[str, str]], count: int = 3) -> str:
    """The first entries of a list of names with reasons on one line."""
    shown = "; ".join(f"{name}: {reason}" for name, reason in entries[:count])
    more = f"; and {len(entries) - count} more" if len(entries) > count else ""
    return " ".join((shown + more).split())


def hint(name: str, known: Iterable[str]) -> str:
    """How a message about an unknown name goes on: the nearest one and all there are."""
    known = tuple(known)
    folded = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), folded, n=1)
    guess = f"; did you mean {folded[near[0]]!r}?" if near else ";"
    return f"{guess} It has: {', '.join(known) or 'none'}"
