"""Pictures that look alike: a perceptual hash, confirmed by comparing colours.

The hash is the average hash (Zauner 2010): which cells of a coarse grid are brighter than the mean.
Scaling, recompression and slight retouching change few of its bits. The DCT hash does worse where
pictures are symmetric, as portraits are: half of its frequencies are next to zero.
"""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from invdiff.data.samples import Pictures

SIDE = 32
"""Pictures are compared at this size, in pixels a side."""
BITS, BANDS = 64, 5
MOST_BITS = BANDS - 1
"""Hashes that differ in more bits are of different pictures."""
MOST_COLOUR = 4.0
"""Largest mean difference of colour, of 255."""
GREY = np.array([0.299, 0.587, 0.114])


def perceptual_hash(picture: Pictures) -> int:
    """64 bits of a picture (SIDE, SIDE, 3), uint8, row by row."""
    grey = (thumbnail(picture) @ GREY).ravel()
    return int.from_bytes(np.packbits(grey > grey.mean()).tobytes(), "big")


def thumbnail(picture: Pictures) -> NDArray[np.float32]:
    """Mean colours on a grid of 8 x 8 cells."""
    cells = picture.reshape(8, SIDE // 8, 8, SIDE // 8, 3)
    return cells.mean((1, 3), dtype=np.float32)


class Likeness:
    """Remembers pictures and finds one that a new picture looks like.

    Hashes that differ in at most `MOST_BITS` bits agree wholly in one of `BANDS` = `MOST_BITS` + 1
    bands, so only pictures that share a band are compared.
    """

    def __init__(self) -> None:
        self.known: list[tuple[str, int, NDArray[np.float32]]] = []
        self.buckets: dict[tuple[int, int], list[int]] = defaultdict(list)

    def find_or_add(self, name: str, picture: Pictures) -> str | None:
        """The name of the first picture that looks like this one; None, and it is remembered."""
        own, small = perceptual_hash(picture), thumbnail(picture)
        bands = list(enumerate(np.array_split(np.arange(BITS), BANDS)))
        keys = [(at, own >> int(bits[0]) & (1 << len(bits)) - 1) for at, bits in bands]
        for number in sorted({number for key in keys for number in self.buckets[key]}):
            other, hashed, seen = self.known[number]
            near = (own ^ hashed).bit_count() <= MOST_BITS
            if near and float(np.abs(small - seen).mean()) <= MOST_COLOUR:
                return other
        for key in keys:
            self.buckets[key].append(len(self.known))
        self.known.append((name, own, small))
        return None
