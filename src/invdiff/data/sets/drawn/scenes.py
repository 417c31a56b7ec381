"""Garments of Fashion-MNIST cut out on photographs of plants or of places.

The garment is the prompt, the kind of background is tied to it 90 : 10. A kind is about ten very
different photographs, so that it is no single cluster and no single colour.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes

from invdiff.data.samples import Pictures
from invdiff.data.sets.drawn import photographs
from invdiff.data.sets.stored import SIZE, SPLITS, DrawnSplit, Split
from invdiff.errors import DataError
from invdiff.terminal import Bar

SHARE = Path("/usr/share")
GARMENTS = {1: "a pair of trousers", 3: "a dress", 8: "a bag", 9: "an ankle boot"}
USUAL = {1: "plants", 3: "places", 8: "plants", 9: "places"}
COUNTS: Mapping[Split, int] = {"train": 2000, "balanced": 1000}
BIAS = 0.9


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
    places = photographs.folders(root)
    views = {kind: photographs.load(all_, places) for kind, all_ in photographs.FAMILIES.items()}
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
    streams = {kind: photographs.backgrounds(images, rng) for kind, images in views.items()}
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
