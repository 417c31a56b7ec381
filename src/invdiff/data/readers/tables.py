"""Tables that describe pictures: CSV, JSON lines, parquet. Columns are read when asked for."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from invdiff.data.pictures import one_line
from invdiff.errors import DataError


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
        return [
            tuple(self._as_text(one, column) for one in items(value)) for value in self.read(column)
        ]

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


def items(value: object) -> Sequence[object]:
    """The items of a list, as JSON and parquet have them; another value is the only item."""
    return value if isinstance(value, list | tuple) else (value,)


def hint(name: str, known: Iterable[str]) -> str:
    """How a message about an unknown name goes on: the nearest one and all there are."""
    known = tuple(known)
    folded = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), folded, n=1)
    guess = f"; did you mean {folded[near[0]]!r}?" if near else ";"
    return f"{guess} It has: {', '.join(known) or 'none'}"


def open_table(path: Path) -> SourceTable:
    """A metadata file by its suffix: .csv, .jsonl or .parquet. DataError when it cannot be read."""
    readers = {".csv": read_csv, ".jsonl": read_jsonl, ".parquet": parquet_columns}
    try:
        return readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}); save it again as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {one_line(error)}") from error


def read_csv(path: Path) -> SourceTable:
    """Comma-separated values whose first line names the columns."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        try:
            rows = [row for row in csv.reader(stream, strict=True) if row]
        except csv.Error as error:
            raise DataError(f"{path} is not valid CSV: {one_line(error)}") from error
    header = tuple(name.strip() for name in rows[0]) if rows else ()
    if len(set(header)) < len(header):
        raise DataError(f"{path} names a column twice: {', '.join(header)}; rename one of them")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise DataError(
                f"{path}, row {number} has {len(row)} values for {len(header)} columns; "
                'put "quotes" around text that contains a comma'
            )
    columns = {name: [row[at] for row in rows[1:]] for at, name in enumerate(header)}
    return SourceTable(path, header, lambda column: list(columns[column]))


def read_jsonl(path: Path) -> SourceTable:
    """One JSON object a line; a column is any key that occurs, absent values are None."""
    rows: list[dict[str, object]] = []
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                rows.append(parse_line(path, number, line))
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    return SourceTable(path, columns, lambda column: [row.get(column) for row in rows])


def parse_line(path: Path, number: int, line: str) -> dict[str, object]:
    """One line of a .jsonl file."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number} is not valid JSON: {one_line(error)}") from None
    if not isinstance(row, dict):
        raise DataError(
            f"{path}, line {number} must be an object such as "
            '{"file_name": "a.png", "caption": "a person"}'
        )
    return row


def parquet_columns(path: Path) -> SourceTable:
    """The columns of a parquet file except those that hold bytes or structures."""
    columns = text_columns(open_parquet(path).schema_arrow)

    def values(column: str) -> list[object]:
        try:
            return pq.read_table(path, columns=[column])[column].to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"column {column!r} of {path} cannot be read: {one_line(error)}"
            ) from error

    return SourceTable(path, columns, values)


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file or raise DataError."""
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as parquet: {one_line(error)}; is it complete?"
        ) from error


def text_columns(schema: pa.Schema) -> tuple[str, ...]:
    """The columns that hold text, numbers, or lists of these."""
    return tuple(field.name for field in schema if not is_nested(items_of(field.type)))


def items_of(kind: pa.DataType) -> pa.DataType:
    """The type of the items of a list, of other types the type itself."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return kind.value_type if lists else kind


def is_nested(kind: pa.DataType) -> bool:
    """Whether values of this type are neither text nor numbers."""
    return (
        pa.types.is_nested(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
