"""A built-in set on the disk: for each split an atlas of pictures and two tables.

``<split>.webp`` holds the pictures without loss, row by row, ``<split>.parquet`` their prompts. How
a picture was drawn is in ``<split>_attributes.parquet``, a file of its own, so that code which may
not know the attributes never opens a file that holds them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from invdiff.data.pictures import StoredAs
from invdiff.data.readers.listing import Listing, SourceTable
from invdiff.data.readers.tables import fit_bytes
from invdiff.data.samples import Pictures
from invdiff.data.sets import builtin

Split = Literal["train", "balanced"]
SPLITS: tuple[Split, ...] = ("train", "balanced")
SIZE = 32


@dataclass(frozen=True)
class DrawnSplit:
    """A split before it is written: pictures (n, 32, 32, 3) RGB uint8, and what belongs to each."""

    pictures: Pictures
    prompts: Sequence[str]
    attributes: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class StoredSet:
    """The splits in ``folder``, ``train`` biased and ``balanced`` with even shares."""

    folder: Path

    def pictures(self, split: Split) -> Pictures:
        """All pictures of a split in their stored order: (n, 32, 32, 3), RGB uint8 0..255."""
        with self.open(f"{split}.webp") as stream, Image.open(stream) as image:
            atlas = np.array(image)
        rows, columns = atlas.shape[0] // SIZE, atlas.shape[1] // SIZE
        grid = atlas.reshape(rows, SIZE, columns, SIZE, 3).transpose(0, 2, 1, 3, 4)
        return grid.reshape(rows * columns, SIZE, SIZE, 3)

    def prompts(self, split: Split) -> tuple[str, ...]:
        """The prompt of each picture."""
        return self.columns(f"{split}.parquet")["prompt"]

    def attributes(self, split: Split) -> dict[str, tuple[str, ...]]:
        """How each picture was drawn, by attribute.

        Only for evaluation, attribute classifiers and the oracle baseline; discovery and training
        must not call it.
        """
        return self.columns(f"{split}_attributes.parquet")

    def listing(self, attributes: bool) -> Listing:
        """The biased training split, with the attributes as columns if they may be known."""
        pixels = self.pictures("train")
        columns: dict[str, tuple[str, ...]] = {"prompt": self.prompts("train")}
        if attributes:
            columns |= self.attributes("train")
        return Listing(
            [f"{self.folder.name}, picture {row}" for row in range(len(pixels))],
            SourceTable(Path(self.folder.name), tuple(columns), lambda name: list(columns[name])),
            lambda row: pixels[row].tobytes(),
            partial(fit_bytes, (SIZE, SIZE, 3)),
            lambda _: StoredAs((SIZE, SIZE)),
        )

    def columns(self, name: str) -> dict[str, tuple[str, ...]]:
        """A table of the set, by column."""
        with self.open(name) as stream:
            table = pq.read_table(stream)
        return {column: tuple(table[column].to_pylist()) for column in table.column_names}

    def open(self, name: str) -> IO[bytes]:
        """Every file of a set is opened here and nowhere else."""
        return (self.folder / name).open("rb")


def open_set(name: str) -> StoredSet:
    """The built-in set ``name``; DataError if it was not built yet."""
    return StoredSet(builtin.require_built(name))


def write_drawn_split(folder: Path, split: Split, drawn: DrawnSplit) -> None:
    """Write the three files of a split into ``folder``."""
    pictures = drawn.pictures
    columns = math.gcd(len(pictures), 100)
    grid = pictures.reshape(-1, columns, SIZE, SIZE, 3).transpose(0, 2, 1, 3, 4)
    atlas = Image.fromarray(grid.reshape(-1, columns * SIZE, 3))
    atlas.save(folder / f"{split}.webp", lossless=True, quality=50, method=3)
    tables = {split: {"prompt": drawn.prompts}, f"{split}_attributes": drawn.attributes}
    for name, values in tables.items():
        table = pa.table({key: list(column) for key, column in values.items()})
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
