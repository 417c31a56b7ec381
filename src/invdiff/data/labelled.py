"""Pictures with a label each, to train or measure a classifier with; captions are not needed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invdiff.data.checks.checking import content_of, progress
from invdiff.data.pictures import BadPicture
from invdiff.data.samples import Pictures
from invdiff.data.sources import first_few, open_listing
from invdiff.errors import DataError

MAX_BAD_SHARE = 0.05


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
    for row in progress(listing, f"reading {Path(path).name}"):
        if not values[row]:
            continue
        try:
            content = content_of(listing, row)
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
