"""Cartoon faces with three attributes that are tied to the prompt, and one that is even.

Gender and skin are those of the embedded faces and of the further ones; each picture gets a
background of its own, and half of them are moved away. In each prompt the attributes are drawn
independently of each other. A face is used several times, each time dressed anew. The balanced
split is made of the embedded balanced faces, so that no face is in both.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy.ndimage import label

from invdiff.data.sets.builtin import require_built
from invdiff.data.sets.drawn.more_faces import PROMPTS, whole
from invdiff.data.sets.stored import SIZE, DrawnSplit, Split, StoredSet, open_set

Picture = UInt8[np.ndarray, "height width 3"]

VALUES: Mapping[str, tuple[str, str]] = {
    "gender": ("female", "male"),
    "skin": ("light", "dark"),
    "background": ("orange", "blue"),
    "framing": ("near", "far"),
}
"""The two values of each attribute; shares are those of the second."""
SHARES: Mapping[str, tuple[float, ...]] = dict(
    zip(
        PROMPTS,
        [(0.8, 0.5, 0.9, 0.5), (0.9, 0.7, 0.2, 0.5), (0.5, 0.2, 0.7, 0.5), (0.1, 0.5, 0.3, 0.5)],
        strict=True,
    )
)
EVEN: Mapping[str, tuple[float, ...]] = dict.fromkeys(PROMPTS, (0.5, 0.5, 0.5, 0.5))
COUNTS: Mapping[Split, int] = {"train": 2000, "balanced": 1000}
SEED = 5
"""Owns which pictures these are; the balanced split has the next one."""

DARK = ("black", "brown")
COLOURS = {"blue": (120, 165, 230), "orange": (235, 170, 110)}
SHADE = 25
"""How far a background is from its colour at most, in each channel."""
WHITE = 235
FAR = (21, 24)
"""Side of a face that is far away, in pixels; of a near one it is that of the picture."""


class Pool(NamedTuple):
    """Faces as they were drawn, and where those of a prompt, a gender and a skin are."""

    pictures: UInt8[np.ndarray, "picture height width 3"]
    rows: Mapping[tuple[str, str, str], np.ndarray]


def draw(seed: int = SEED, counts: Mapping[Split, int] = COUNTS) -> dict[Split, DrawnSplit]:
    """Both splits, ``counts`` pictures a prompt; the same for the same seed."""
    faces, more = open_set("faces"), StoredSet(require_built("faces") / "more")
    plain = pool_of([whole(faces, "train"), whole(more, "train")])
    even = pool_of([whole(faces, "balanced")])
    return {
        "train": draw_split(plain, SHARES, counts["train"], seed),
        "balanced": draw_split(even, EVEN, counts["balanced"], seed + 1),
    }


def pool_of(parts: list[DrawnSplit]) -> Pool:
    """The faces of some splits by their kinds."""
    prompts = [text for part in parts for text in part.prompts]
    genders = [value for part in parts for value in part.attributes["gender"]]
    skins = [("light", "dark")[v in DARK] for part in parts for v in part.attributes["race"]]
    rows: dict[tuple[str, str, str], list[int]] = {}
    for row, kind in enumerate(zip(prompts, genders, skins, strict=True)):
        rows.setdefault(kind, []).append(row)
    pictures = np.concatenate([part.pictures for part in parts])
    return Pool(pictures, {kind: np.array(own) for kind, own in rows.items()})


def draw_split(
    pool: Pool, shares: Mapping[str, tuple[float, ...]], count: int, seed: int
) -> DrawnSplit:
    """``count`` pictures of each prompt whose attributes have these ``shares``, but for chance."""
    random = np.random.default_rng(seed)
    pictures, prompts = [], []
    attributes: dict[str, list[str]] = {name: [] for name in VALUES}
    for prompt, share in shares.items():
        for _ in range(count):
            second = random.random(len(VALUES)) < share
            values = [of[k] for of, k in zip(VALUES.values(), second.astype(int), strict=True)]
            gender, skin, background, framing = values
            face = pool.pictures[random.choice(pool.rows[prompt, gender, skin])]
            pictures.append(dressed(face, background, framing, random))
            prompts.append(prompt)
            for name, value in zip(VALUES, values, strict=True):
                attributes[name].append(value)
    return DrawnSplit(np.stack(pictures), prompts, attributes)


def dressed(face: Picture, background: str, framing: str, random: np.random.Generator) -> Picture:
    """A face before a shade of its ``background``; a far one is smaller and a little aside."""
    shift = random.integers(-SHADE, SHADE + 1, 3)
    colour = (np.array(COLOURS[background]) + shift).clip(0, 255).astype(np.uint8)
    picture = face.copy()
    picture[behind(face)] = colour
    if framing == "near":
        return picture
    side = int(random.integers(FAR[0], FAR[1] + 1))
    left = (SIZE - side) // 2 + int(random.integers(-2, 3))
    canvas = np.full_like(picture, colour)
    small = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    canvas[SIZE - side :, left : left + side] = np.asarray(small)
    return canvas


def behind(face: Picture) -> np.ndarray:
    """Which pixels are background: white that is connected with the upper edge or a side.

    Not with the lower one, where a face ends in its clothes, which may be white.
    """
    regions, _ = label((face >= WHITE).all(-1))
    edge = np.unique(np.concatenate([regions[0], regions[:, 0], regions[:, -1]]))
    found: np.ndarray = np.isin(regions, edge[edge > 0])
    return found
