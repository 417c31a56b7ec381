"""Many pictures in one file: NumPy's .npz."""

import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from invdiff.data.pictures import BadPicture, StoredAs, check_pixels, fit_array, one_line
from invdiff.data.readers.listing import Listing, SourceTable, hint
from invdiff.data.samples import Pictures
from invdiff.errors import DataError

NPZ_PICTURES = "images"


def open_npz(path: Path) -> Listing:
    """Arrays `images` (n, height, width, 3) uint8 and text arrays of length n."""
    names = read_npz(path)
    if NPZ_PICTURES not in names:
        raise DataError(f"{path} has no array {NPZ_PICTURES!r}{hint(NPZ_PICTURES, names)}")
    images = read_npz(path, NPZ_PICTURES)
    check_images(path, images)
    return Listing(
        names=[f"{path.name}, picture {row}" for row in range(len(images))],
        table=SourceTable(
            path,
            tuple(name for name in names if name != NPZ_PICTURES),
            lambda column: npz_values(path, column, len(images)),
        ),
        load=lambda row: images[row].tobytes(),
        decode=partial(fit_bytes, images.shape[1:]),
        stored_as=lambda _: StoredAs((images.shape[2], images.shape[1])),
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
    array = read_npz(path, column)
    if array.shape != (count,):
        raise DataError(
            f"{column!r} in {path} has shape {array.shape}; "
            f"it must be ({count},), one value for each picture"
        )
    return list(
        (np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array).tolist()
    )


def fit_bytes(shape: tuple[int, ...], content: bytes, size: int) -> Pictures:
    """Pixels of the given shape as a square."""
    return fit_array(np.frombuffer(content, dtype=np.uint8).reshape(shape), size)
