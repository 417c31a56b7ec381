"""Tables that describe pictures: CSV, JSON lines, parquet; and NumPy's .npz, which holds both.

Columns are read when asked for.
"""

import csv
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from invdiff.data.pictures import BadPicture, StoredAs, check_pixels, fit_array, one_line
from invdiff.data.readers.columnar import open_parquet, table_of
from invdiff.data.readers.listing import Listing, SourceTable, hint, json_row
from invdiff.data.samples import Pictures
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
            if not line.strip():
                continue
            try:
                row = json_row(line)
            except (ValueError, RecursionError) as error:
                reason = f"is not valid JSON: {one_line(error)}"
                raise DataError(f"{path}, line {number} {reason}") from None
            if not isinstance(row, dict):
                raise DataError(
                    f"{path}, line {number} must be an object such as "
                    '{"file_name": "a.png", "caption": "a person"}'
                )
            rows.append(row)
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    return SourceTable(path, columns, lambda column: [row.get(column) for row in rows])


NPZ_PICTURES = "images"


def open_npz(path: Path) -> Listing:
    """Arrays `images` (n, height, width, 3) uint8 and text arrays of length n."""
    names = read_npz(path)
    if NPZ_PICTURES not in names:
        raise DataError(f"{path} has no array {NPZ_PICTURES!r}{hint(NPZ_PICTURES, names)}")
    images = read_npz(path, NPZ_PICTURES)
    shape = images.shape
    if images.dtype != np.uint8 or images.ndim != 4 or shape[3] != 3 or 0 in shape:
        raise DataError(
            f"{NPZ_PICTURES!r} in {path} has type {images.dtype} and shape {shape}; "
            "it must be uint8 of shape (pictures, height, width, 3) with values 0 to 255"
        )
    try:
        check_pixels(shape[2], shape[1])
    except BadPicture as error:
        raise DataError(f"the pictures in {path} are too large: {error}") from None

    def values(column: str) -> list[object]:
        array = read_npz(path, column)
        if array.shape != shape[:1]:
            raise DataError(
                f"{column!r} in {path} has shape {array.shape}; "
                f"it must be ({len(images)},), one value for each picture"
            )
        is_bytes = array.dtype.kind == "S"
        return list((np.char.decode(array, "utf-8", "replace") if is_bytes else array).tolist())

    return Listing(
        names=[f"{path.name}, picture {row}" for row in range(len(images))],
        table=SourceTable(path, tuple(name for name in names if name != NPZ_PICTURES), values),
        load=lambda row: images[row].tobytes(),
        decode=partial(fit_bytes, shape[1:]),
        stored_as=lambda _: StoredAs((shape[2], shape[1])),
    )


def read_npz(path: Path, name: str = "") -> Any:
    """An array, or the names of all; objects are refused, because reading them can run code."""
    what = f"{name!r} in {path}" if name else str(path)
    try:
        arrays = np.load(path, allow_pickle=False)
        if not isinstance(arrays, NpzFile):
            raise DataError(f"{path} holds a single array; save named arrays with np.savez")
        with arrays:
            return np.asarray(arrays[name]) if name else list(arrays.files)
    except MemoryError:
        raise DataError(f"{what} does not fit in memory; use a folder of pictures") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if name and "pickle" in str(error):
            raise DataError(
                f"{what} holds Python objects, which are never read because they can "
                f"run code; save plain text or numbers, for instance np.array({name}, dtype=str)"
            ) from None
        kind = "" if name else " as .npz"
        raise DataError(f"{what} cannot be read{kind}: {one_line(error)}") from error


def fit_bytes(shape: tuple[int, ...], content: bytes, size: int) -> Pictures:
    """Pixels of the given shape as a square."""
    return fit_array(np.frombuffer(content, dtype=np.uint8).reshape(shape), size)
