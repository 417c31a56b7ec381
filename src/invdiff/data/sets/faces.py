"""The embedded set: cartoon faces with a planted bias (assets/faces/README.md)."""

from collections.abc import Sequence
from importlib.resources import files
from typing import IO, Literal

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from invdiff.data.pictures import fit_array
from invdiff.data.samples import Pictures, Samples, sample_id

Split = Literal["train", "balanced"]
SIZE = 32


def pictures(split: Split) -> Pictures:
    """All pictures of a split in their stored order: (n, 32, 32, 3), RGB uint8 0..255."""
    with open_asset(f"{split}.webp") as stream, Image.open(stream) as image:
        atlas = np.array(image)
    rows, columns = atlas.shape[0] // SIZE, atlas.shape[1] // SIZE
    grid = atlas.reshape(rows, SIZE, columns, SIZE, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * columns, SIZE, SIZE, 3)


def prompts(split: Split) -> tuple[str, ...]:
    """The prompt of each picture, a full sentence."""
    return read_columns(f"{split}.parquet")["prompt"]


def attributes(split: Split) -> dict[str, tuple[str, ...]]:
    """How each picture was drawn: gender, race, hair, facial_hair, accessory, glasses.

    Only for evaluation, attribute classifiers and the oracle baseline; discovery and training
    must not call it. The values live in a file of their own, which `samples` does not open.
    """
    return read_columns(f"{split}_attributes.parquet")


def samples(image_size: int = SIZE) -> Samples:
    """The biased training split as samples; ids do not depend on `image_size`."""
    prompt = prompts("train")
    pixels = pictures("train")
    ids = tuple(sample_id(one.tobytes(), text) for one, text in zip(pixels, prompt, strict=True))
    if image_size != SIZE:
        pixels = np.stack([fit_array(one, image_size) for one in pixels])

    def take(indices: Sequence[int]) -> Pictures:
        return pixels[np.asarray(indices, dtype=np.intp)]

    return Samples(ids, prompt, take)


def read_columns(name: str) -> dict[str, tuple[str, ...]]:
    """A table of the set, by column."""
    with open_asset(name) as stream:
        table = pq.read_table(stream)
    return {column: tuple(table[column].to_pylist()) for column in table.column_names}


def open_asset(name: str) -> IO[bytes]:
    """Every file of the set is opened here and nowhere else."""
    return files("invdiff").joinpath("assets", "faces", name).open("rb")
