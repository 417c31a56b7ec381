"""The one pass over a source that decodes every picture, and what it leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from invdiff.data.checks.quarantine import LeftOut
from invdiff.data.pictures import BadPicture
from invdiff.data.readers.listing import Listing
from invdiff.data.samples import Pictures, Samples, pick_caption, sample_id
from invdiff.errors import DataError
from invdiff.terminal import Bar

IN_MEMORY_BYTES = 512 * 1024**2


@dataclass
class Checked:
    """What one pass over a listing found; `pixels` is None when they are too many to keep."""

    rows: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    listed: list[tuple[str, str]] = field(default_factory=list)
    pixels: Pictures | None = None


def check_listing(
    listing: Listing, captions: Sequence[Sequence[str]], size: int, left_out: Mapping[str, LeftOut]
) -> Checked:
    """Decode every picture once, sort the rows into good, faulty, duplicate and left out."""
    checked = Checked()
    kept = None
    if len(listing) * size * size * 3 < IN_MEMORY_BYTES:
        kept = np.empty((len(listing), size, size, 3), dtype=np.uint8)
    first: dict[str, str] = {}
    for row in progress(listing, "checking pictures"):
        name, listed = listing.names[row], left_out.get(listing.names[row])
        if listed and listed.means(partial(content_of, listing, row)):
            checked.listed.append((name, listed.reason))
            continue
        try:
            content = content_of(listing, row)
            caption = caption_of(listing, row, captions[row], content)
            picture = listing.decode(content, size)
        except BadPicture as fault:
            checked.faults.append((name, str(fault)))
            continue
        identity = sample_id(content, caption)
        if identity in first:
            checked.duplicates.append((name, f"duplicate of {first[identity]}"))
            continue
        first[identity] = name
        if kept is not None:
            kept[len(checked.rows)] = picture
        checked.rows.append(row)
        checked.ids.append(identity)
        checked.captions.append(caption)
    if kept is not None:
        checked.pixels = kept[: len(checked.rows)]
    return checked


def content_of(listing: Listing, row: int) -> bytes:
    """The bytes of the picture in a row. Raises BadPicture."""
    fault = listing.faults.get(row)
    if fault is not None and fault.kind == "missing":
        raise fault
    return listing.content(row)


def caption_of(listing: Listing, row: int, captions: Sequence[str], content: bytes) -> str:
    """The caption that a row is used with. Raises BadPicture when it has none."""
    if row in listing.faults:
        raise listing.faults[row]
    caption = pick_caption(captions, content)
    if not caption:
        raise BadPicture("its prompt is empty", "no caption")
    return caption


def to_samples(listing: Listing, prompts: Sequence[str], checked: Checked, size: int) -> Samples:
    """The good rows; pictures come from memory, or are decoded again when they are too many.

    `prompts` are those to compare within, one for each good row.
    """

    def from_memory(indices: Sequence[int]) -> Pictures:
        assert checked.pixels is not None
        return checked.pixels[np.asarray(indices, dtype=np.intp)]

    def again(indices: Sequence[int]) -> Pictures:
        chosen = [read_again(listing, checked.rows[index], size) for index in indices]
        return np.stack(chosen) if chosen else np.empty((0, size, size, 3), dtype=np.uint8)

    return Samples(
        sample_id=tuple(checked.ids),
        prompt=tuple(prompts),
        pictures=again if checked.pixels is None else from_memory,
        quarantined=tuple(checked.faults + checked.duplicates + checked.listed),
        caption=tuple(checked.captions),
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


def progress(listing: Listing, what: str) -> Bar:
    """The rows of a listing, with a bar when someone watches."""
    return Bar(range(len(listing)), desc=what, unit=" pictures", disable=None, leave=False)
