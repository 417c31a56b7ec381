"""Plain folders of pictures as they lie there, for measuring: nothing is dropped."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from invdiff.data.checks.checking import content_of, progress
from invdiff.data.pictures import BadPicture
from invdiff.data.readers.folders import METADATA, find_pictures, is_file
from invdiff.data.readers.listing import Listing, read_content
from invdiff.data.readers.tables import SourceTable
from invdiff.data.samples import Pictures, clean_prompt, pick_caption
from invdiff.data.sources import first_few, open_listing, read_captions
from invdiff.errors import DataError


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
    if place.is_dir() and (found := _bare(place)):
        listing, prompts, by = found
    else:
        listing = open_listing(path)
        captions = read_captions(path, listing, prompt_column)
        prompts, by = None, "captions"
    digests, sizes, chosen = [], Counter[tuple[int, int]](), []
    first: dict[tuple[int, int], str] = {}
    faults: list[tuple[str, str]] = []
    for row in progress(listing, f"reading {place.name}"):
        try:
            content = content_of(listing, row)
            listing.decode(content, 1)  # complete, or a reason; only then is the header trusted
            shape = listing.size_of(content)
            told = prompts[row] if prompts else _caption(listing, row, captions[row], content)
            chosen.append(told)
        except BadPicture as fault:
            faults.append((listing.names[row], str(fault)))
            continue
        digests.append(hashlib.sha256(content).hexdigest())
        sizes[shape] += 1
        first.setdefault(shape, listing.names[row])
    _judge(path, len(listing), faults, first, sizes, size)
    names = tuple(listing.names)
    return Gallery(place, listing, names, tuple(chosen), tuple(digests), next(iter(first)), by)


def _bare(folder: Path) -> tuple[Listing, list[str], str] | None:
    """A folder of pictures without captions: prompts are the sub-folders' names, or unknown."""
    if any(is_file(folder / name) for name in METADATA):
        return None
    pictures = find_pictures(folder)
    if not pictures or any((folder / name).with_suffix(".txt").is_file() for name in pictures):
        return None
    parents = [PurePosixPath(name).parent.as_posix() for name in pictures]
    by = "none" if set(parents) == {"."} else "sub-folders"
    prompts = ["" if one == "." else clean_prompt(one.replace("_", " ")) for one in parents]
    listing = Listing(
        names=pictures,
        table=SourceTable(folder, (), lambda _: []),
        content=lambda row: read_content((folder / pictures[row]).read_bytes),
    )
    return listing, prompts, by


def _caption(listing: Listing, row: int, captions: Sequence[str], content: bytes) -> str:
    if row in listing.faults:
        raise listing.faults[row]
    return pick_caption(captions, content)


def _judge(
    path: str | Path,
    total: int,
    faults: Sequence[tuple[str, str]],
    first: dict[tuple[int, int], str],
    sizes: Counter[tuple[int, int]],
    size: int,
) -> None:
    if faults:
        raise DataError(
            f"{len(faults)} of {total} pictures in {path} cannot be used: {first_few(faults)}. "
            "Mend or remove them: none is left out of a measurement silently"
        )
    if len(sizes) > 1 and not size:
        (one, often), (other, _) = sizes.most_common(2)
        raise DataError(
            f"the pictures in {path} have {len(sizes)} sizes ({often} are {one[0]} x {one[1]}, "
            f"but {first[other]} is {other[0]} x {other[1]}): make them alike, or give --size to "
            "resize"
        )
