"""The one pass over a source that decodes every picture, and what it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from invdiff.data.listing import Listing
from invdiff.data.pictures import BadPicture
from invdiff.data.samples import Pictures, Samples, sample_id
from invdiff.errors import DataError

IN_MEMORY_BYTES = 512 * 1024**2


@dataclass
class Checked:
    """What one pass over a listing found; `pixels` is None when they are too many to keep."""

    rows: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    pixels: Pictures | None = None


def check(listing: Listing, prompts: list[str], size: int) -> Checked:
    """Decode every picture once, sort the rows into good, faulty and duplicate."""
    checked = Checked()
    kept = None
    if len(listing) * size * size * 3 < IN_MEMORY_BYTES:
        kept = np.empty((len(listing), size, size, 3), dtype=np.uint8)
    first: dict[str, str] = {}
    for row in progress(listing, "checking pictures"):
        name = listing.names[row]
        try:
            identity, picture = check_row(listing, row, prompts[row], size)
        except BadPicture as fault:
            checked.faults.append((name, str(fault)))
            continue
        if identity in first:
            checked.duplicates.append((name, f"duplicate of {first[identity]}"))
            continue
        first[identity] = name
        if kept is not None:
            kept[len(checked.rows)] = picture
        checked.rows.append(row)
        checked.ids.append(identity)
    if kept is not None:
        checked.pixels = kept[: len(checked.rows)]
    return checked


def check_row(listing: Listing, row: int, prompt: str, size: int) -> tuple[str, Pictures]:
    """The sample id and the pixels of one row. Raises BadPicture."""
    if row in listing.faults:
        raise BadPicture(listing.faults[row])
    if not prompt:
        raise BadPicture("its prompt is empty")
    content = listing.content(row)
    return sample_id(content, prompt), listing.decode(content, size)


def to_samples(listing: Listing, prompts: list[str], checked: Checked, size: int) -> Samples:
    """The good rows; pictures come from memory, or are decoded again when they are too many."""

    def from_memory(indices: Sequence[int]) -> Pictures:
        assert checked.pixels is not None
        return checked.pixels[np.asarray(indices, dtype=np.intp)]

    def again(indices: Sequence[int]) -> Pictures:
        chosen = [read_again(listing, checked.rows[index], size) for index in indices]
        return np.stack(chosen) if chosen else np.empty((0, size, size, 3), dtype=np.uint8)

    return Samples(
        sample_id=tuple(checked.ids),
        prompt=tuple(prompts[row] for row in checked.rows),
        pictures=again if checked.pixels is None else from_memory,
        quarantined=tuple(checked.faults + checked.duplicates),
    )


def read_again(listing: Listing, row: int, size: int) -> Pictures:
    """Decode a picture that passed the check. DataError when it changed since."""
    try:
        return listing.decode(listing.content(row), size)
    except BadPicture as fault:
        raise DataError(
            f"{listing.names[row]} was fine when the data was opened and is not now: {fault}; "
            "put it back and run the same command again"
        ) from fault


def progress(listing: Listing, what: str) -> "tqdm[int]":
    """The rows of a listing, with a bar when someone watches."""
    return tqdm(range(len(listing)), desc=what, unit=" pictures", disable=None, leave=False)
