"""Pictures inside the page, as data URIs: drawings, and many small pictures as one grid."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from invdiff.app.report.facts import ARMS
from invdiff.app.report.inputs import Inputs
from invdiff.data.samples import Samples

PICTURED_PROMPTS = 8  # pictures of more prompts would make the file too large to send
COLUMNS = 8
MOST_CERTAIN = 16  # training images shown for a group
SEEDS_SHOWN = 24  # generated images shown for a prompt, a scale and a model
PICTURES = 768  # generated images shown in all, unless that leaves less than one row of a grid
TILE = 80  # pixels: the longest edge of a picture in the grid
GAP = 2
LOSSLESS_TILE = 48  # small drawings are sharper and hardly larger without loss
QUALITY = 82


@dataclass(frozen=True)
class InlinePicture:
    """What ``<img>`` needs to show a picture without a file; width and height in pixels.

    ``shows`` is the number of small pictures in a grid.
    """

    uri: str
    width: int
    height: int
    shows: int = 1

    @classmethod
    def of(cls, file: bytes, kind: str, size: tuple[int, int], shows: int = 1) -> "InlinePicture":
        """From the bytes of a file; ``kind`` as in ``image/webp``."""
        data = base64.b64encode(file).decode("ascii")
        return cls(f"data:{kind};base64,{data}", *size, shows)


def grid(pictures: Sequence[np.ndarray]) -> InlinePicture:
    """Lay uint8 pictures of shape (height, width, 3) out row by row, with clear gaps."""
    tiles = [_tile(picture) for picture in pictures]
    edge = max(tile.size[axis] for tile in tiles for axis in (0, 1))
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    size = (columns * (edge + GAP) - GAP, rows * (edge + GAP) - GAP)
    sheet = Image.new("RGBA", size)
    for at, tile in enumerate(tiles):
        sheet.paste(tile, (at % columns * (edge + GAP), at // columns * (edge + GAP)))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", lossless=edge <= LOSSLESS_TILE, quality=QUALITY, method=4)
    return InlinePicture.of(buffer.getvalue(), "image/webp", size, len(tiles))


def _tile(picture: np.ndarray) -> Image.Image:
    tile = Image.fromarray(picture).convert("RGB")
    tile.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    return tile


def most_certain(inputs: Inputs, samples: Samples, prompt: str, group: int) -> InlinePicture | None:
    """The training images that belong to a group most surely (largest q); None without any."""
    table = inputs.groups
    place = {sample: at for at, sample in enumerate(samples.sample_id)}
    members = [
        (-table[f"q_{group}"][at], sample)
        for at, sample in enumerate(table["sample_id"])
        if table["prompt"][at] == prompt and table["group"][at] == group and sample in place
    ]
    rows = [place[sample] for _, sample in sorted(members)[:MOST_CERTAIN]]
    if not rows:
        return None
    return grid(list(samples.pictures(rows)))


def seeds_shown(grids: int) -> int:
    """How many seeds each of ``grids`` grids can show: full rows, fewer when there are many."""
    rows = PICTURES // max(1, grids) // COLUMNS
    return min(SEEDS_SHOWN, COLUMNS * max(1, rows))


def generated(inputs: Inputs, prompt: str, scale: float, most: int) -> dict[str, InlinePicture]:
    """The first seeds of a prompt for each model; the same position is the same seed."""
    names = ("arm", "prompt", "scale", "index", "seed", "path")
    present: dict[str, dict[tuple[int, ...], Path]] = {}
    for arm, of, at, *seed, name in zip(*(inputs.samples.get(n) or () for n in names), strict=True):
        if (of, at) == (prompt, scale) and (path := inputs.path / name).exists():
            present.setdefault(arm, {})[tuple(seed)] = path
    shared = sorted(set.intersection(*map(set, present.values())))[:most] if present else []
    return {
        arm: grid([np.asarray(Image.open(present[arm][seed]).convert("RGB")) for seed in shared])
        for arm in ARMS
        if shared and arm in present
    }
