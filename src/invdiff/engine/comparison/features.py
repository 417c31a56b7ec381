"""Features of the pictures of a gallery, computed once for a content and kept on the disk."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from invdiff.data.gallery import Gallery
from invdiff.data.pictures import READ_AS
from invdiff.data.samples import Pictures
from invdiff.engine.distributed.pool import worker_count
from invdiff.engine.storage.hashed_tensors import Tensors, cached
from invdiff.model.vision import extractors
from invdiff.model.vision.extractors import Extractor, Preparation

SHARD = 64
WORTH_A_WORKER = 4  # shards below which starting another process takes longer than it saves

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """The work of one shard, for workers: pictures to features."""

    name: str
    weights: Path
    preparation: Preparation

    def __call__(self, pictures: Pictures) -> Tensors:
        """Features (n, dims) under "features"."""
        found = extractor_of(self.name, self.weights).features(pictures, self.preparation)
        return {"features": torch.from_numpy(found)}


@cache
def extractor_of(name: str, weights: Path) -> Extractor:
    """An extractor, loaded once in each process."""
    return extractors.load(name, weights)


def features_of_all(
    look: Look, gallery: Gallery, side: int, folder: Path, processes: int
) -> Features:
    """Features (n, dims) of all pictures of a gallery, kept in ``folder`` for its content.

    ``side`` 0 takes pictures at their stored (shorter) side. ``processes`` 0: automatic.
    """
    extractor, side = extractor_of(look.name, look.weights), side_of(gallery, side)
    about = {
        "extractor": f"{extractor.name} {extractor.sha256}",
        "preparation": repr(look.preparation),
        "side": str(side),
        "read as": READ_AS,
        "pictures": hashlib.sha256("".join(gallery.digest).encode()).hexdigest(),
    }
    shards, title = _shards(gallery), f"looking at {gallery.path.name}"
    workers = worker_count(processes, "cpu") if len(shards) >= WORTH_A_WORKER else 1
    how: dict[str, Any] = {"processes": workers, "title": title}
    how["load"] = partial(gallery.pictures, side=side)
    found: Features = cached(look, shards, folder, "features", about, **how)["features"].numpy()
    return found


def side_of(gallery: Gallery, side: int) -> int:
    """The side of the squares that a network is given: what was asked for, or as it is stored."""
    return side or min(gallery.size)


def each(gallery: Gallery, see: Callable[[Pictures], NDArray[Any]], side: int) -> NDArray[Any]:
    """``see`` for all pictures, a shard at a time; nothing is kept."""
    return np.concatenate([see(gallery.pictures(rows, side)) for rows in _shards(gallery)])


def _shards(gallery: Gallery) -> list[range]:
    """The rows of a gallery in parts, whose pictures are read when their turn comes."""
    return [range(len(gallery))[at : at + SHARD] for at in range(0, len(gallery), SHARD)]
