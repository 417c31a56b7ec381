"""Tables that describe pictures: CSV, JSON lines, parquet. Columns are read when asked for."""

import csv
import json
from pathlib import Path

from invdiff.data.pictures import one_line
from invdiff.data.readers.columnar import open_parquet, table_of
from invdiff.data.readers.listing import SourceTable
from invdiff.errors import DataError


def open_table(path: Path) -> SourceTable:
    """A metadata file by its suffix: .csv, .jsonl or .parquet. DataError when it cannot be read."""
    if path.suffix.lower() == ".parquet":
        return table_of([open_parquet(path)])
    try:
        return (read_csv if path.suffix.lower() == ".csv" else read_jsonl)(path)
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
            rows = [row for row in csv.reader(stream, strict=True, skipinitialspace=True) if row]
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
    return SourceTable(path, header, lambda name: [row[header.index(name)] for row in rows[1:]])


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
