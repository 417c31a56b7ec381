"""What is wrong with a source of pictures, row by row: `invdiff data check`.

Pictures that look alike are found by a perceptual hash and confirmed by comparing colours.
The hash is the average hash (Zauner 2010): which cells of a coarse grid are brighter than the mean.
Scaling, recompression and slight retouching change few of its bits. The DCT hash does worse where
pictures are symmetric, as portraits are: half of its frequencies are next to zero.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from invdiff.data.pictures import BadPicture, is_one_colour
from invdiff.data.readers.listing import Listing
from invdiff.data.samples import Pictures, pick_caption, picture_id
from invdiff.data.sets import builtin
from invdiff.data.sources import open_listing, read_captions

UNUSABLE = ("missing", "unreadable", "truncated", "oversized", "transparent", "no caption")
LESSER = ("tiny", "animated", "one colour", "duplicate", "near-duplicate")
KINDS = UNUSABLE + LESSER

SIDE = 32
"""Pictures are compared at this size, in pixels a side."""
BITS, BANDS = 64, 5
MOST_BITS = BANDS - 1
"""Hashes that differ in more bits are of different pictures."""
MOST_COLOUR = 4.0
"""Largest mean difference of colour, of 255."""
GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class AuditFinding:
    """One thing that is wrong with one picture; `picture` is its id, "" if it cannot be read."""

    name: str
    kind: str
    reason: str
    picture: str


@dataclass
class Audit:
    """Everything that was found in a source, in its order; `told` is about no single picture."""

    pictures: int
    told: tuple[str, ...] = ()
    findings: list[AuditFinding] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many findings of each kind, the kinds without any included."""
        found = [finding.kind for finding in self.findings]
        return {kind: found.count(kind) for kind in KINDS}

    def usable(self) -> int:
        """Pictures that a run would take."""
        return self.pictures - len({f.name for f in self.findings if f.kind in UNUSABLE})


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
    bands, so only pictures that share a band are compared. `first` has the name and caption of the
    first picture of each content.
    """

    def __init__(self) -> None:
        self.first: dict[str, tuple[str, str]] = {}
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


def audit(path: str | Path, prompt_column: str = "", least_side: int = 32) -> Audit:
    """Decode every picture of a source and look for everything that could be wrong with it.

    Args:
        path: a built-in set, a folder, a file or a pattern, as a user names it.
        prompt_column: column with the captions; "" finds it.
        least_side: pictures whose shorter side has fewer pixels are tiny.

    Raises DataError for a source that cannot be opened.
    """
    path = builtin.resolve_name(path)
    listing = open_listing(path)
    captions = read_captions(path, listing, prompt_column)
    looked, found = Likeness(), Audit(len(listing), tuple(listing.told))
    for row in listing.rows("checking pictures"):
        found.findings += _look(listing, row, captions[row], least_side, looked)
    return found


def _look(
    listing: Listing, row: int, captions: Sequence[str], least_side: int, looked: Likeness
) -> list[AuditFinding]:
    """The findings of one row. A picture without a caption is looked at all the same."""
    name, identity, content = listing.names[row], "", b""
    found: list[AuditFinding] = []

    def note(kind: str, reason: str) -> None:
        found.append(AuditFinding(name, kind, reason, identity))

    try:
        content = listing.content(row)
        identity = picture_id(content)
        picture = listing.decode(content, SIDE)
    except BadPicture as fault:
        note(fault.kind, str(fault))
        if fault.kind == "missing":
            return found
    else:
        stored = listing.stored_as(content)
        width, height = stored.size
        if min(width, height) < least_side:
            note("tiny", f"{width} x {height} pixels: the shorter side has less than {least_side}")
        if stored.frames > 1:
            note("animated", f"{stored.frames} pictures in one file: the first is taken")
        if is_one_colour(picture):
            note("one colour", "every pixel has the same colour: it shows nothing")
        if repeated := _repeated(name, identity, pick_caption(captions, content), picture, looked):
            note(*repeated)
    try:
        listing.caption(row, captions, content)
    except BadPicture as fault:
        note(fault.kind, str(fault))
    return found


def _repeated(
    name: str, identity: str, caption: str, picture: Pictures, looked: Likeness
) -> tuple[str, str] | None:
    """Which earlier picture this one repeats, if it does."""
    if identity in looked.first:
        other, its_caption = looked.first[identity]
        if its_caption == caption:
            return "duplicate", f"duplicate of {other}"
        return "near-duplicate", f"the picture of {other} with another caption"
    looked.first[identity] = (name, caption)
    other_name = looked.find_or_add(name, picture)
    return ("near-duplicate", f"looks like {other_name}") if other_name else None
