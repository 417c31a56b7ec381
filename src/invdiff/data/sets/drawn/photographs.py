"""Backgrounds cut from photographs: many crops, scales, mirror images and tints of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from invdiff.data.samples import Pictures
from invdiff.data.sets.stored import SIZE
from invdiff.errors import DataError, MissingExtra

SHORT_SIDE = 256
WHOLE = (0.0, 0.0, 1.0, 1.0)
TINTS = ((0.0, 0.14), (0.52, 0.7))  # hues of stone: red to yellow, and blue


@dataclass(frozen=True)
class Photograph:
    """A file ``name`` of ``source``, and the part of it (left, top, right, bottom) that is used."""

    source: str
    name: str
    part: tuple[float, float, float, float] = WHOLE


PLANTS = (
    Photograph("mate", "Blinds.jpg"),
    Photograph("mate", "Dune.jpg", (0.0, 0.55, 1.0, 1.0)),
    Photograph("mate", "FreshFlower.jpg"),
    Photograph("mate", "Garden.jpg"),
    Photograph("mate", "GreenMeadow.jpg"),
    Photograph("mate", "LadyBird.jpg"),
    Photograph("mate", "RainDrops.jpg"),
    Photograph("mate", "TwoWings.jpg"),
    Photograph("mate", "YellowFlower.jpg", (0.3, 0.0, 1.0, 1.0)),
    Photograph("sklearn", "flower.jpg"),
)
PLACES = (
    Photograph("mate", "Aqua.jpg"),
    Photograph("mate", "Storm.jpg"),
    Photograph("mate", "Wood.jpg"),
    Photograph("sklearn", "china.jpg", (0.0, 0.0, 0.8, 0.75)),
    Photograph("skimage", "brick.png"),
    Photograph("skimage", "gravel.png"),
    Photograph("skimage", "moon.png"),
    Photograph("skimage", "motorcycle_left.png"),
    Photograph("skimage", "rocket.jpg", (0.0, 0.3, 1.0, 1.0)),
)
FAMILIES = {"plants": PLANTS, "places": PLACES}


def folders(root: Path) -> dict[str, Path]:
    """Where each source keeps its photographs; ``root`` is laid out like /usr/share."""
    return {
        "mate": root / "backgrounds" / "mate" / "nature",
        "sklearn": _inside("sklearn") / "datasets" / "images",
        "skimage": _inside("skimage") / "data",
    }


def _inside(module: str) -> Path:
    """The folder of an installed library, which is not imported: only its pictures are wanted."""
    found = find_spec(module)
    if found is None or found.origin is None:
        raise MissingExtra("scikit-image", "sets")
    return Path(found.origin).parent


def load(photographs: tuple[Photograph, ...], places: dict[str, Path]) -> list[Image.Image]:
    """The used parts, their short side 256 pixels; DataError names the first that is missing."""
    return [_load(places[one.source] / one.name, one.part) for one in photographs]


def _load(path: Path, part: tuple[float, float, float, float]) -> Image.Image:
    try:
        with Image.open(path) as image:
            width, height = image.size
            box = (part[0] * width, part[1] * height, part[2] * width, part[3] * height)
            ratio = SHORT_SIDE / min(box[2] - box[0], box[3] - box[1])
            size = (round((box[2] - box[0]) * ratio), round((box[3] - box[1]) * ratio))
            mode = "L" if image.mode == "L" else "RGB"
            return image.convert(mode).resize(size, Image.Resampling.BOX, box)
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing: `apt-get install mate-backgrounds`, or unpack that package with "
            "dpkg -x and give --from the folder usr/share in it"
        ) from None


def backgrounds(photographs: list[Image.Image], rng: np.random.Generator) -> Iterator[Pictures]:
    """Endless squares (32, 32, 3) cut from ``photographs`` in turn."""
    while True:
        for image in photographs:
            yield crop(image, rng)


def crop(image: Image.Image, rng: np.random.Generator) -> Pictures:
    """A random square of ``image``, half to all of its short side, mirrored, in other light."""
    side = rng.uniform(0.4, 1.0) * min(image.size)
    left, top = (rng.uniform(0, length - side) for length in image.size)
    box = (left, top, left + side, top + side)
    small = image.resize((SIZE, SIZE), Image.Resampling.BOX, box)
    if rng.random() < 0.5:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return tinted(small, rng) if small.mode == "L" else relit(small, rng)


def tinted(image: Image.Image, rng: np.random.Generator) -> Pictures:
    """A grey picture in a colour of stone."""
    hue = rng.uniform(*TINTS[rng.integers(len(TINTS))])
    grey = np.asarray(image, dtype=np.float32) * rng.uniform(0.8, 1.3)
    full = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    colour = 1 - rng.uniform(0.05, 0.45) * (1 - full)
    return np.clip(grey[..., None] * colour, 0, 255).astype(np.uint8)


def relit(image: Image.Image, rng: np.random.Generator) -> Pictures:
    """A picture with its hues turned a little, its saturation and brightness changed."""
    hsv = np.asarray(image.convert("HSV"), dtype=np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-12, 12)) % 256
    hsv[..., 1:] = np.clip(hsv[..., 1:] * rng.uniform((0.65, 0.75), (1.1, 1.15)), 0, 255)
    return np.asarray(Image.fromarray(hsv.astype(np.uint8), "HSV").convert("RGB"))
