"""What all extractors share: their form, how pictures reach their input, and trusted weights."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from invdiff.errors import ModelError, refused

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
BATCH = 32


@dataclass(frozen=True)
class Preparation:
    """What a protocol does to pictures before the network.

    ``square``: side in pixels that every picture is brought to first, bilinearly; 0 leaves it.
    ``to_input``: how it then gets the side of the network's input. ``normalise``: with the
    statistics that the network was trained with, else values stay in 0..1.
    """

    square: int = 0
    to_input: Literal["bicubic", "nearest"] = "bicubic"
    normalise: bool = True


@dataclass(frozen=True)
class Extractor:
    """A network from pictures to features.

    ``network`` maps prepared pictures (n, 3, side, side) to features (n, dims). ``statistics`` are
    mean and standard deviation of each channel, for pixels in 0..1. ``sha256`` is that of the
    weights, "" where there are none. ``side`` 0 takes pictures as they are; ``fixed`` refuses
    others instead of resizing them. ``limits`` is what a reader has to know about it.
    """

    name: str
    sha256: str
    dims: int
    side: int
    network: Callable[[Tensor], Tensor]
    statistics: tuple[tuple[float, ...], tuple[float, ...]]
    limits: str = ""
    fixed: bool = False

    @torch.no_grad()
    def features(
        self, pictures: NDArray[np.uint8], preparation: Preparation | None = None
    ) -> NDArray[np.float32]:
        """Features (n, dims) of ``pictures`` (n, height, width, 3) in 0..255; not by batch.

        Raises:
            ModelError: the network does not read pictures of this size, or its features are not
                finite.
        """
        if self.fixed and pictures.shape[1:3] != (self.side, self.side):
            height, width = pictures.shape[1:3]
            raise ModelError(
                f"the extractor {self.name!r} reads pictures of {self.side} x {self.side}, these "
                f"are {width} x {height}: take another extractor, or --size {self.side}"
            )
        how = preparation or Preparation()
        starts = range(0, len(pictures), BATCH)
        parts = [
            self.network(prepare_pictures(pictures[at : at + BATCH], self, how)).float().flatten(1)
            for at in starts
        ]
        found = torch.cat(parts).numpy()
        if not np.isfinite(found).all():
            raise ModelError(
                f"the features of {self.name!r} are not finite: its weights or their precision are "
                "broken; take them again in float32"
            )
        return found


def prepare_pictures(pictures: NDArray[np.uint8], extractor: Extractor, how: Preparation) -> Tensor:
    """Pictures (n, height, width, 3) as the network's input (n, 3, side, side)."""
    if how.square:
        size = (how.square, how.square)
        resized = [
            np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR))
            for one in pictures
        ]
        pictures = np.stack(resized)
    values = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    side = extractor.side
    if side and values.shape[2:] != (side, side):
        if how.to_input == "nearest":
            values = F.interpolate(values, (side, side), mode="nearest")
        else:
            values = F.interpolate(values, (side, side), mode="bicubic", antialias=True)
            values = values.clamp(0, 1)
    if not how.normalise:
        return values
    mean, spread = (torch.tensor(one).view(3, 1, 1) for one in extractor.statistics)
    return (values - mean) / spread


def trusted_state(path: Path, sha256: str, hint: str) -> dict[str, Any]:
    """A state dict that was saved by torch, if the file is the known one; only tensors are read.

    Raises:
        ModelError: no such file, or another one.
    """
    content = io.BytesIO(trusted_bytes(path, sha256, hint))
    state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
    return state


def trusted_bytes(path: Path, sha256: str, hint: str) -> bytes:
    """A file in memory, if it is the known one: nobody can exchange it between check and use.

    Raises:
        ModelError: no such file, or another one.
    """
    with refused(f"{path} cannot be read", hint):
        content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path} is not the known file (SHA-256 {found[:12]}..., wanted {sha256[:12]}...): "
            f"{hint}"
        )
    return content


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
