"""Many pictures in one file: NumPy's .npz and parquet."""

import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from invdiff.data.listing import Listing, read_content
from invdiff.data.pictures import BadPicture, check_pixels, fit_array, one_line
from invdiff.data.samples import Pictures
from invdiff.data.tables import Table, hint, open_parquet, read_parquet
from invdiff.errors import DataError

NPZ_PICTURES = "images"
PARQUET_PICTURES = "image"


def open_npz(path: Path) -> Listing:
    """Arrays `images` (n, height, width, 3) uint8 and text arrays of length n."""
    names = array_names(path)
    if NPZ_PICTURES not in names:
        raise DataError(f"{path} has no array {NPZ_PICTURES!r}{hint(NPZ_PICTURES, names)}")
    images = read_array(path, NPZ_PICTURES)
    check_images(path, images)
    columns = tuple(name for name in names if name != NPZ_PICTURES)
    return Listing(
        names=[f"{path.name}, picture {row}" for row in range(len(images))],
        table=Table(path, columns, lambda column: npz_values(path, column, len(images))),
        content=lambda row: images[row].tobytes(),
        decode=lambda content, size: fit_bytes(content, images.shape[1:], size),
    )


def array_names(path: Path) -> list[str]:
    """The names in an .npz file."""
    try:
        arrays = np.load(path, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path} cannot be read as .npz: {one_line(error)}") from error
    if not isinstance(arrays, NpzFile):
        raise DataError(f"{path} holds a single array; save named arrays with np.savez")
    with arrays:
        return list(arrays.files)


def check_images(path: Path, images: NDArray[Any]) -> None:
    """Raise DataError unless the array holds RGB pictures."""
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


def npz_values(path: Path, column: str, count: int) -> list[object]:
    """An array as a column; it must have one value for each picture."""
    array = read_array(path, column)
    if array.shape != (count,):
        raise DataError(
            f"{column!r} in {path} has shape {array.shape}; "
            f"it must be ({count},), one value for each picture"
        )
    if array.dtype.kind == "S":
        return [value.decode("utf-8", "replace") for value in array.tolist()]
    return list(array.tolist())


def read_array(path: Path, name: str) -> NDArray[Any]:
    """One array. Objects are refused, because reading them can run code."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays[name])
    except MemoryError:
        raise DataError(
            f"{name!r} in {path} does not fit in memory; use a folder of pictures"
        ) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error):
            raise DataError(
                f"{name!r} in {path} holds Python objects, which are never read because they can "
                f"run code; save plain text or numbers, for instance np.array({name}, dtype=str)"
            ) from None
        raise DataError(f"{name!r} in {path} cannot be read: {one_line(error)}") from error


def fit_bytes(content: bytes, shape: tuple[int, ...], size: int) -> Pictures:
    """Pixels of the given shape as a square."""
    return fit_array(np.frombuffer(content, dtype=np.uint8).reshape(shape), size)


def open_parquet_pictures(path: Path) -> Listing:
    """Column `image` (file contents, or a structure with `bytes` or `path`) and text columns."""
    file = open_parquet(path)
    schema = file.schema_arrow
    if PARQUET_PICTURES not in schema.names:
        raise DataError(
            f"{path} has no column {PARQUET_PICTURES!r} with pictures"
            f"{hint(PARQUET_PICTURES, schema.names)}"
        )
    kind = schema.field(PARQUET_PICTURES).type
    if not (is_bytes(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)):
        raise DataError(
            f"column {PARQUET_PICTURES!r} of {path} has type {kind}; "
            "it must hold the bytes of picture files"
        )
    reader = RowReader(file, path.parent)
    return Listing(
        names=[f"{path.name}, row {row}" for row in range(file.metadata.num_rows)],
        table=read_parquet(path),
        content=reader.content,
    )


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a parquet type holds bytes."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


class RowReader:
    """Single pictures of a parquet file; the row group read last stays in memory."""

    def __init__(self, file: pq.ParquetFile, folder: Path) -> None:
        meta = file.metadata
        sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self.file = file
        self.folder = folder
        self.group = lru_cache(maxsize=1)(self.read_group)

    def read_group(self, group: int) -> pa.ChunkedArray:
        """The pictures of one row group."""
        return self.file.read_row_group(group, columns=[PARQUET_PICTURES])[PARQUET_PICTURES]

    def content(self, row: int) -> bytes:
        """The bytes of the picture file in a row. Raises BadPicture."""
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        try:
            value = self.group(group)[row - int(self.starts[group])].as_py()
        except (OSError, pa.ArrowException) as error:
            raise BadPicture(f"cannot be read: {one_line(error)}") from error
        if isinstance(value, dict):
            inside, beside = value.get("bytes"), value.get("path")
            if inside is None and beside:
                return read_content((self.folder / beside).read_bytes)
            value = inside
        if value is None:
            raise BadPicture("there is no picture in this row")
        return value
