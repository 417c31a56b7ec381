"""What in the files of pictures a figure, or the model, may take for what the pictures show."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from invdiff.data.pictures import BadPicture, StoredAs
from invdiff.data.samples import sample_id
from invdiff.data.sources import open_listing, read_captions
from invdiff.engine.classifiers.classify import read_picture
from invdiff.engine.comparison.caveats import SETS_DIFFER, kinds_of_files
from invdiff.engine.encoding.session import Session
from invdiff.errors import DataError

FILES = 1000
"""Files whose headers are looked at."""


def files_of(session: Session, samples: Mapping[str, Any]) -> Iterator[str]:
    """How the files of the data differ from drawn ones, and within a prompt from group to group."""
    section, results = session.config.data, session.results
    try:
        listing = open_listing(section.path)
        captions = read_captions(section.path, listing, section.prompt_column)
    except DataError:  # it is gone, and figures without a classifier do without it
        return
    group_of = {}
    if results.has("groups.parquet"):
        entries = zip(results.groups.prompt, results.groups.group.tolist(), strict=True)
        group_of = dict(zip(results.groups.sample_id, entries, strict=True))
    known: list[StoredAs] = []
    by_group: dict[str, dict[str, list[StoredAs]]] = {}
    for row in np.linspace(0, len(listing) - 1, min(len(listing), FILES), dtype=int).tolist():
        with suppress(BadPicture, OSError):  # what cannot be read was left out, and told then
            content = listing.content(row)
            known.append(listing.stored_as(content))
            if known[-1].format == "array":  # of a source without files
                return
            name = sample_id(content, listing.caption(row, captions[row], content))
            if name in group_of:
                prompt, group = group_of[name]
                groups = by_group.setdefault(prompt, {})
                groups.setdefault(f"group {group}", []).append(known[-1])
    side, width, _ = read_picture(session.path / samples["path"][0]).shape
    drawn = [StoredAs((width, side), "PNG")] * len(samples["path"])
    for differ in kinds_of_files({"data": known, "samples": drawn} if known else {}, side):
        yield SETS_DIFFER.format(differ)
    for prompt, groups in by_group.items():
        for differ in kinds_of_files(groups, side):
            yield (
                f"The inferred groups of {prompt!r} differ in {differ}. They may be groups of "
                "files: store all alike and infer them again."
            )
