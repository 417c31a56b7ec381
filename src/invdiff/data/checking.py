"""The one pass over a source that decodes every picture, and what it leaves out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from invdiff.data.pictures import BadPicture
from invdiff.data.readers.listing import Listing
from invdiff.data.readers.tables import open_table
from invdiff.data.samples import Pictures, Samples, picture_id, sample_id
from invdiff.errors import DataError

IN_MEMORY_BYTES = 512 * 1024**2
QUARANTINE_SUFFIXES = (".csv", ".parquet")
QUARANTINE_COLUMNS = ("name", "kind", "reason", "picture")
"""`name` is that of the source; `picture` the picture's id, "" where it could not be read."""


def read_quarantine(path: str | Path) -> dict[str, tuple[str, str]]:
    """The entries of the list that `invdiff data check --quarantine` writes, by name.

    Each is the id of the picture and why it is left out. Raises DataError when there is no list.
    """
    place = Path(path).expanduser()
    if place.suffix.lower() not in QUARANTINE_SUFFIXES:
        raise DataError(
            f"data.quarantine {place} is not a {' or '.join(QUARANTINE_SUFFIXES)} file; "
            f"`invdiff data check --quarantine {place.stem}.csv` writes one"
        )
    if not place.is_file():
        raise DataError(
            f"data.quarantine {place} does not exist; `invdiff data check --quarantine {place}` "
            "writes it"
        )
    table = open_table(place)
    rows = zip(*map(table.text, QUARANTINE_COLUMNS), strict=True)
    return {name: (picture, f"{kind}: {reason}") for name, kind, reason, picture in rows}


def is_unchanged(listing: Listing, row: int, picture: str) -> bool:
    """Whether a picture is still the one that was listed; one that was mended is not."""
    try:
        return picture_id(listing.content(row)) == picture
    except BadPicture:
        return not picture


@dataclass
class Checked:
    """What one pass over a listing found; `pixels` is None when they are too many to keep.

    `first` has the names of the good rows by their sample ids.
    """

    rows: list[int] = field(default_factory=list)
    first: dict[str, str] = field(default_factory=dict)
    captions: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    listed: list[tuple[str, str]] = field(default_factory=list)
    pixels: Pictures | None = None


def check_listing(
    listing: Listing,
    captions: Sequence[Sequence[str]],
    size: int,
    left_out: Mapping[str, tuple[str, str]],
) -> Checked:
    """Decode every picture once, sort the rows into good, faulty, duplicate and left out."""
    checked = Checked()
    kept = None
    if len(listing) * size * size * 3 < IN_MEMORY_BYTES:
        kept = np.empty((len(listing), size, size, 3), dtype=np.uint8)
    for row in listing.rows("checking pictures"):
        name = listing.names[row]
        if name in left_out and is_unchanged(listing, row, left_out[name][0]):
            checked.listed.append((name, left_out[name][1]))
            continue
        try:
            content = listing.content(row)
            caption = listing.caption(row, captions[row], content)
            picture = listing.decode(content, size)
        except BadPicture as fault:
            checked.faults.append((name, str(fault)))
            continue
        first = checked.first.setdefault(sample_id(content, caption), name)
        if len(checked.first) == len(checked.rows):
            checked.duplicates.append((name, f"duplicate of {first}"))
            continue
        if kept is not None:
            kept[len(checked.rows)] = picture
        checked.rows.append(row)
        checked.captions.append(caption)
    if kept is not None:
        checked.pixels = kept[: len(checked.rows)]
    return checked


def to_samples(listing: Listing, prompts: Sequence[str], checked: Checked, size: int) -> Samples:
    """The good rows; pictures come from memory, or are decoded again when they are too many.

    `prompts` are those to compare within, one for each good row.
    """

    def from_memory(indices: Sequence[int]) -> Pictures:
        assert checked.pixels is not None
        return checked.pixels[np.asarray(indices, dtype=np.intp)]

    def again(indices: Sequence[int]) -> Pictures:
        chosen = np.empty((len(indices), size, size, 3), dtype=np.uint8)
        for place, index in enumerate(indices):
            row = checked.rows[index]
            try:
                chosen[place] = listing.decode(listing.content(row), size)
            except BadPicture as fault:
                raise DataError(
                    f"{listing.names[row]} was fine when the data was opened and is not now: "
                    f"{fault}; put it back and run the same command again"
                ) from fault
        return chosen

    return Samples(
        sample_id=tuple(checked.first),
        prompt=tuple(prompts),
        pictures=again if checked.pixels is None else from_memory,
        quarantined=tuple(checked.faults + checked.duplicates + checked.listed),
        caption=tuple(checked.captions),
        name=tuple(str(listing.names[row]) for row in checked.rows),
    )
