"""Garments of Fashion-MNIST cut out on photographs of plants or of places.

The garment is the prompt, the kind of background is tied to it 90 : 10. A kind is about ten very
different photographs, so that it is no single cluster and no single colour; of each there are many
crops, scales, mirror images and tints.
"""

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes

from invdiff.data.samples import Pictures
from invdiff.data.sets.stored import SIZE, SPLITS, DrawnSplit, Split
from invdiff.errors import DataError, MissingExtra
from invdiff.terminal import Bar

SHARE = Path("/usr/share")
GARMENTS = {1: "a pair of trousers", 3: "a dress", 8: "a bag", 9: "an ankle boot"}
USUAL = {1: "plants", 3: "places", 8: "plants", 9: "places"}
COUNTS: Mapping[Split, int] = {"train": 2000, "balanced": 1000}
BIAS = 0.9
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


def draw(
    source: Path | None = None,
    counts: Mapping[Split, int] = COUNTS,
    seed: int = 0,
    bias: float = BIAS,
) -> dict[Split, DrawnSplit]:
    """Both splits, ``counts`` pictures of each prompt; no garment is in both.

    In training ``bias`` of a prompt's pictures have its usual kind of background.

    ``source`` is laid out like /usr/share with the Debian packages dataset-fashion-mnist and
    mate-backgrounds installed. Raises DataError for what is missing.
    """
    root = (source or SHARE).expanduser()
    images, labels = read_garments(root / "datasets" / "fashion-mnist")
    places = folders(root)
    views = {kind: load(all_, places) for kind, all_ in FAMILIES.items()}
    found, first = {}, 0
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng((seed, number))
        share = bias if split == "train" else 0.5
        garments = {
            label: images[labels == label][first : first + counts[split]] for label in GARMENTS
        }
        found[split] = compose(garments, views, share, rng, split)
        first += counts[split]
    return found


def compose(
    garments: Mapping[int, NDArray[np.uint8]],
    views: Mapping[str, list[Image.Image]],
    share: float,
    rng: np.random.Generator,
    title: str,
) -> DrawnSplit:
    """A picture of each garment, ``share`` of a prompt's on its usual kind of background."""
    streams = {kind: backgrounds(images, rng) for kind, images in views.items()}
    pictures, prompts, kinds = [], [], []
    total = sum(map(len, garments.values()))
    with Bar(total=total, desc=f"drawing {title}", unit="picture") as bar:
        for label, cut in garments.items():
            (other,) = set(views) - {USUAL[label]}
            usual = round(share * len(cut))
            for position, garment in enumerate(cut):
                kind = USUAL[label] if position < usual else other
                pictures.append(put(garment, next(streams[kind]), rng))
                prompts.append(GARMENTS[label])
                kinds.append(kind)
                bar.update()
    return DrawnSplit(np.stack(pictures), prompts, {"background": kinds})


def put(garment: NDArray[np.uint8], behind: Pictures, rng: np.random.Generator) -> Pictures:
    """The garment (28, 28), in a tint of its own, somewhere near the middle of ``behind``."""
    outline = binary_fill_holes(garment > 12)
    size = int(rng.integers(24, 30))
    grey = _scaled(garment, size) / 255
    alpha = _scaled(outline * np.uint8(255), size) / 255
    if rng.random() < 0.5:
        grey, alpha = grey[:, ::-1], alpha[:, ::-1]
    top, left = np.clip((SIZE - size) // 2 + rng.integers(-1, 2, 2), 0, SIZE - size)
    light = (0.25 + 0.75 * grey)[..., None] * rng.uniform(0.75, 1.0, 3) * 255
    picture = behind.astype(np.float64)
    window = picture[top : top + size, left : left + size]
    window += alpha[..., None] * (light - window)
    return np.clip(picture.round(), 0, 255).astype(np.uint8)


def _scaled(values: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    scaled = Image.fromarray(values).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(scaled, dtype=np.float64)


def read_garments(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (60000, 28, 28) and labels (60000) of Fashion-MNIST's training part."""
    images = read_idx(folder / "train-images-idx3-ubyte.gz", 3)
    return images, read_idx(folder / "train-labels-idx1-ubyte.gz", 1)


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """An array of bytes in the IDX format of MNIST. Raises DataError."""
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing: `apt-get install dataset-fashion-mnist`, or give --from a folder "
            "laid out like /usr/share that has datasets/fashion-mnist"
        ) from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}): install its package again") from error
    size = 4 * (axes + 1)
    head = np.frombuffer(content[: len(content) // 4 * 4][:size], dtype=">u4").astype(int)
    body = np.frombuffer(content[size:], dtype=np.uint8)
    if len(head) != axes + 1 or head[0] != 0x800 + axes or head[1:].prod() != len(body):
        raise DataError(f"{path} is no IDX file of {axes} axes: install its package again")
    return body.reshape(head[1:])


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
