"""Pictures for measuring: plain folders, of which nothing is dropped, and pictures with labels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from invdiff.data.pictures import BadPicture
from invdiff.data.readers.listing import Listing
from invdiff.data.samples import Pictures, clean_prompt
from invdiff.data.sources import first_few, open_listing, read_captions
from invdiff.errors import DataError

MAX_BAD_SHARE = 0.05
"""Of pictures with labels; a measurement of pictures without them leaves none out."""


@dataclass(frozen=True)
class Gallery:
    """Pictures of one source with what is known of each; one entry of each field a picture.

    ``prompt`` is "" where nothing tells it. ``digest`` is the SHA-256 of the picture's file,
    ``size`` the common (width, height) as stored. ``by`` says where prompts are from.
    """

    path: Path
    listing: Listing
    names: tuple[str, ...]
    prompt: tuple[str, ...]
    digest: tuple[str, ...]
    size: tuple[int, int]
    by: str

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def sha256(self) -> str:
        """One hash of all names, prompts and pictures, in this order."""
        lines = zip(self.names, self.prompt, self.digest, strict=True)
        return hashlib.sha256("\n".join(map("\t".join, lines)).encode()).hexdigest()

    @property
    def repeated(self) -> int:
        """How many pictures are exact copies of an earlier one."""
        return len(self.digest) - len(set(self.digest))

    def pictures(self, rows: Sequence[int], side: int) -> Pictures:
        """Pictures (n, side, side, 3), RGB 0..255; the central square where they are not square."""
        return np.stack([self.listing.decode(self.listing.content(row), side) for row in rows])

    def column(self, name: str) -> tuple[str, ...]:
        """A column of labels. DataError when it is missing or a picture has none."""
        values = tuple(self.listing.table.text(name))
        empty = sum(not value for value in values)
        if empty:
            raise DataError(
                f"{empty} of {len(values)} pictures have no value in column {name!r} of "
                f"{self.path}; fill them in"
            )
        return values


def open_gallery(path: str | Path, size: int = 0, prompt_column: str = "") -> Gallery:
    """Open any source of pictures, captioned or not, and decode each once.

    Prompts are the captions if there are any, else the sub-folders' names, else unknown.
    ``size`` 0 wants pictures of one size; another brings each to ``size`` x ``size``.

    Raises:
        DataError: no pictures, pictures that cannot be used (none is left out silently), or
            pictures of several sizes.
    """
    place = Path(path).expanduser()
    listing = open_listing(path, bare=True)
    if listing.table.columns:
        captions, by = read_captions(path, listing, prompt_column), "captions"
    else:
        parents = [PurePosixPath(name).parent.as_posix() for name in listing.names]
        by = "none" if set(parents) == {"."} else "sub-folders"
        told = ["" if one == "." else clean_prompt(one.replace("_", " ")) for one in parents]
        captions = [(one,) for one in told]
    digests, chosen = [], []
    named: dict[tuple[int, int], list[str]] = {}
    faults: list[tuple[str, str]] = []
    for row in listing.rows(f"reading {place.name}"):
        try:
            content = listing.content(row)
            listing.decode(content, 1)  # complete, or a reason; only then is the header trusted
            shape = listing.size_of(content)
            chosen.append(listing.caption(row, captions[row], content, need=False))
        except BadPicture as fault:
            faults.append((listing.names[row], str(fault)))
            continue
        digests.append(hashlib.sha256(content).hexdigest())
        named.setdefault(shape, []).append(listing.names[row])
    if faults:
        raise DataError(
            f"{len(faults)} of {len(listing)} pictures in {path} cannot be used: "
            f"{first_few(faults)}. Mend or remove them: none is left out of a measurement silently"
        )
    if len(named) > 1 and not size:
        one, other = sorted(named, key=lambda shape: -len(named[shape]))[:2]
        raise DataError(
            f"the pictures in {path} have {len(named)} sizes ({len(named[one])} are {one[0]} x "
            f"{one[1]}, but {named[other][0]} is {other[0]} x {other[1]}): make them alike, or "
            "give --size to resize"
        )
    names = tuple(listing.names)
    return Gallery(place, listing, names, tuple(chosen), tuple(digests), next(iter(named)), by)


@dataclass(frozen=True)
class Labelled:
    """Distinct pictures (count, side, side, 3), RGB 0..255, with their labels.

    ``left_out`` counts pictures without a label, unusable ones and repetitions.
    """

    pictures: Pictures
    labels: tuple[str, ...]
    left_out: dict[str, int]


def open_labelled(path: str | Path, column: str, side: int) -> Labelled:
    """Open a source and decode each picture that has a label; a repeated picture counts once.

    Raises:
        DataError: no such source or column, too many unusable pictures, the same picture with two
            labels (one must be wrong), or fewer than two labels.
    """
    listing = open_listing(path)
    values = [" ".join(value.split()) for value in listing.table.text(column)]
    label_of: dict[str, str] = {}
    pictures: list[Pictures] = []
    faults: list[tuple[str, str]] = []
    repeated = 0
    for row in listing.rows(f"reading {Path(path).name}"):
        if not values[row]:
            continue
        try:
            content = listing.content(row)
            picture = listing.decode(content, side)
        except BadPicture as fault:
            faults.append((listing.names[row], str(fault)))
            continue
        digest = hashlib.sha256(content).hexdigest()
        if label_of.setdefault(digest, values[row]) != values[row]:
            raise DataError(
                f"{listing.names[row]} is in {path} twice, as {label_of[digest]!r} and as "
                f"{values[row]!r} in column {column!r}: mend or remove one"
            )
        repeated += len(label_of) == len(pictures)
        if len(label_of) > len(pictures):
            pictures.append(picture)
    if len(faults) > MAX_BAD_SHARE * len(listing):
        raise DataError(
            f"{len(faults)} of {len(listing)} pictures in {path} cannot be used: "
            f"{first_few(faults)}. Mend or remove them"
        )
    if len(set(label_of.values())) < 2:
        raise DataError(
            f"column {column!r} of {path} has {len(set(label_of.values()))} labels on usable "
            "pictures, a classifier needs at least 2"
        )
    left_out = {"no label": values.count(""), "unusable": len(faults), "repeated": repeated}
    return Labelled(np.stack(pictures), tuple(label_of.values()), left_out)
