"""What a source of pictures holds, before anything is decoded: its rows and their columns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from invdiff.data.pictures import BadPicture, decode, one_line, size_of
from invdiff.data.samples import Pictures, pick_caption
from invdiff.errors import DataError
from invdiff.terminal import Bar


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
    (size, size, 3); both raise BadPicture. `size_of(bytes)` is the width and height it is stored
    with. `faults` holds rows known to be unusable from the start.
    """

    names: Sequence[str]
    table: SourceTable
    load: Callable[[int], bytes]
    decode: Callable[[bytes, int], Pictures] = decode
    size_of: Callable[[bytes], tuple[int, int]] = size_of
    faults: Mapping[int, BadPicture] = field(default_factory=dict)

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


def hint(name: str, known: Iterable[str]) -> str:
    """How a message about an unknown name goes on: the nearest one and all there are."""
    known = tuple(known)
    folded = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), folded, n=1)
    guess = f"; did you mean {folded[near[0]]!r}?" if near else ";"
    return f"{guess} It has: {', '.join(known) or 'none'}"
