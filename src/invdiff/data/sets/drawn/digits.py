"""Handwritten digits of scikit-learn on coloured backgrounds, the colour tied to the digit 90 : 10.

The 1,797 digits are 8 x 8; here they are enlarged to 32 x 32, turned and shifted a little. Writers
of the training split are not kept apart from those of the balanced one, the digits are.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from invdiff.data.samples import Pictures
from invdiff.data.sets.stored import SIZE, SPLITS, DrawnSplit, Split

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = {"blue": (50, 80, 190), "orange": (215, 120, 30)}
COUNTS: Mapping[Split, int] = {"train": 800, "balanced": 400}
BIAS = 0.9


def draw(counts: Mapping[Split, int] = COUNTS, seed: int = 0) -> dict[Split, DrawnSplit]:
    """Both splits, ``counts`` pictures of each digit."""
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8) * 15, digits.target
    found: dict[Split, DrawnSplit] = {}
    for number, split in enumerate(SPLITS):
        share = BIAS if split == "train" else 0.5
        pictures, prompts, colours = [], [], []
        for digit, word in enumerate(WORDS):
            own = images[labels == digit]
            cut = 2 * len(own) // 3
            own = own[:cut] if split == "train" else own[cut:]
            rng = np.random.default_rng((seed, number, digit))
            usual, other = sorted(COLOURS, reverse=bool(digit % 2))
            for k in range(counts[split]):
                colour = usual if k < round(share * counts[split]) else other
                pictures.append(paint(own[k % len(own)], COLOURS[colour], rng))
                prompts.append(f"the digit {word}")
                colours.append(colour)
        found[split] = DrawnSplit(np.stack(pictures), prompts, {"background": colours})
    return found


def paint(
    digit: NDArray[np.uint8], colour: tuple[int, int, int], rng: np.random.Generator
) -> Pictures:
    """A digit (8, 8) 0..240 in nearly white on a shade of ``colour`` that runs across."""
    large = Image.fromarray(digit).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    turned = large.rotate(
        rng.uniform(-12, 12),
        Image.Resampling.BILINEAR,
        translate=(int(rng.integers(-2, 3)), int(rng.integers(-1, 2))),
    )
    ink = np.asarray(turned, dtype=np.float64)[..., None] / 240
    run = np.linspace(-1, 1, SIZE)[:, None] * rng.normal(0, 12) + np.linspace(
        -1, 1, SIZE
    ) * rng.normal(0, 12)
    behind = np.array(colour) + rng.normal(0, 14, 3) + run[..., None]
    grain = rng.normal(0, 3, (SIZE, SIZE, 1))
    picture = behind + np.clip(ink, 0, 1) * (rng.uniform(225, 255) - behind) + grain
    return np.clip(picture.round(), 0, 255).astype(np.uint8)
