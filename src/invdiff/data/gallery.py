"""Pictures for measuring, of which none is dropped unsaid, and pictures with labels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path, PurePosixPath

import numpy as np

from invdiff.data.checking import is_unchanged, read_quarantine
from invdiff.data.pictures import BadPicture, StoredAs, finest_detail, is_one_colour
from invdiff.data.readers.listing import Listing, first_few
from invdiff.data.samples import Pictures, clean_prompt, plural
from invdiff.data.sets import builtin
from invdiff.data.sources import open_listing, read_captions
from invdiff.errors import DataError

MAX_BAD_SHARE = 0.05
"""Of pictures with labels; a measurement of pictures without them leaves none out."""


@dataclass(frozen=True)
class Gallery:
    """Pictures of one source; from ``rows`` on, one entry of each field a picture.

    ``size`` is the common (width, height) as stored. ``by`` says where prompts are from,
    ``left_out`` why which pictures of the source are not here. ``prompt`` is "" where nothing tells
    it. ``digest`` is the SHA-256 of the picture's file, ``stored`` what its header tells and
    ``detail`` its :func:`~invdiff.data.pictures.finest_detail`. A ``plain`` one is of one colour.
    """

    path: Path
    listing: Listing
    size: tuple[int, int]
    by: str
    left_out: tuple[tuple[str, str], ...]
    rows: tuple[int, ...]
    names: tuple[str, ...]
    prompt: tuple[str, ...]
    digest: tuple[str, ...]
    stored: tuple[StoredAs, ...]
    detail: tuple[float, ...]
    plain: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def sha256(self) -> str:
        """One hash of all names, prompts and pictures, in this order."""
        lines = zip(self.names, self.prompt, self.digest, strict=True)
        return hashlib.sha256("\n".join(map("\t".join, lines)).encode()).hexdigest()

    @property
    def one_colour(self) -> tuple[str, ...]:
        """The names of the pictures that show nothing."""
        return tuple(compress(self.names, self.plain))

    @property
    def repeated(self) -> int:
        """How many pictures are exact copies of an earlier one."""
        return len(self.digest) - len(set(self.digest))

    def pictures(self, rows: Sequence[int], side: int) -> Pictures:
        """Pictures (n, side, side, 3), RGB 0..255; the central square where they are not square."""
        contents = (self.listing.content(self.rows[row]) for row in rows)
        return np.stack([self.listing.decode(content, side) for content in contents])

    def column(self, name: str) -> tuple[str, ...]:
        """A column of labels. DataError when it is missing or a picture has none."""
        known = self.listing.table.labels(name)
        return self.listing.table.filled(name, tuple(known[row] for row in self.rows))


def open_gallery(
    path: str | Path,
    size: int = 0,
    prompt_column: str = "",
    quarantine: str | Path = "",
    max_bad_share: float = 0.0,
) -> Gallery:
    """Open any source of pictures, captioned or not, and decode each once.

    Prompts are the captions if there are any, else the sub-folders' names, else unknown.
    ``size`` 0 wants pictures of one size; another brings each to ``size`` x ``size``. Pictures of
    the list ``quarantine`` are left out, and unusable ones up to ``max_bad_share`` of all.

    Raises:
        DataError: no pictures, pictures that cannot be used (none is left out silently), or
            pictures of several sizes.
    """
    path = builtin.resolve_name(path)
    place = Path(path).expanduser()
    listing = open_listing(path, bare=True, attributes=True)
    captions, by = _captions_of(path, listing, prompt_column)
    listed = read_quarantine(quarantine) if str(quarantine) else {}
    seen, faults, left_out = [], [], []
    named: dict[tuple[int, int], list[str]] = {}
    for row in listing.rows(f"reading {place.name}"):
        name = listing.names[row]
        if name in listed and is_unchanged(listing, row, listed[name][0]):
            left_out.append((name, listed[name][1]))
            continue
        try:
            content = listing.content(row)
            pixels = listing.decode(content, size)  # only if it is whole is the header trusted
            prompt = listing.caption(row, captions[row], content, need=False)
        except BadPicture as fault:
            faults.append((name, str(fault)))
            continue
        stored, digest = listing.stored_as(content), hashlib.sha256(content).hexdigest()
        plain = is_one_colour(pixels)
        seen.append((row, name, prompt, digest, stored, finest_detail(pixels), plain))
        named.setdefault(stored.size, []).append(name)
    if len(faults) > max_bad_share * len(listing) or not seen:
        raise DataError(
            f"{len(faults or left_out)} of {len(listing)} pictures in {path} cannot be used: "
            f"{first_few(faults or left_out)}. Mend or remove them, or let --max-bad-share or "
            "--quarantine leave them out, which is told"
        )
    if len(named) > 1 and not size:
        one, other = sorted(named, key=lambda shape: -len(named[shape]))[:2]
        raise DataError(
            f"the pictures in {path} have {len(named)} sizes ({len(named[one])} are {one[0]} x "
            f"{one[1]}, but {named[other][0]} is {other[0]} x {other[1]}): make them alike, or "
            "give --size to resize"
        )
    size_of_all = next(iter(named))
    return Gallery(place, listing, size_of_all, by, (*left_out, *faults), *zip(*seen, strict=True))


def _captions_of(
    path: str | Path, listing: Listing, column: str
) -> tuple[Sequence[Sequence[str]], str]:
    """Those of each picture, and what they are: ``captions``, ``sub-folders`` or ``none``."""
    if listing.table.columns:
        return read_captions(path, listing, column), "captions"
    parents = [PurePosixPath(name).parent.as_posix() for name in listing.names]
    told = ["" if one == "." else clean_prompt(one.replace("_", " ")) for one in parents]
    by = "none" if set(parents) == {"."} else "sub-folders"
    return [(one,) for one in told], by


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
    path = builtin.resolve_name(path)
    listing = open_listing(path, attributes=True)
    values = listing.table.labels(column)
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
        found = plural(len(set(label_of.values())), "label")
        raise DataError(
            f"column {column!r} of {path} has {found} on usable pictures, a classifier needs at "
            "least 2"
        )
    left_out = {"no label": values.count(""), "unusable": len(faults), "repeated": repeated}
    return Labelled(np.stack(pictures), tuple(label_of.values()), left_out)
