"""What a source of pictures holds, in a few hashes: is it still what a run was made from?"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invdiff.data.pictures import BadPicture
from invdiff.data.readers.listing import Listing
from invdiff.data.samples import pick_caption, sample_id
from invdiff.data.sets import builtin
from invdiff.data.sources import open_listing, read_captions

KINDS = ("pictures", "captions", "prompt groups", "labels", "the list of pictures to leave out")


@dataclass(frozen=True)
class DataRequest:
    """Which source, and what of it is used: the columns ("" for none) and the quarantine list."""

    path: str
    prompt_column: str = ""
    group_column: str = ""
    label_column: str = ""
    quarantine: str = ""

    def state(self) -> str:
        """A hash of names, sizes and times of the files; equal ones need not be read again.

        The time is that of the last change of a file's entry, which no program can set back.
        """
        found = hashlib.sha256()
        quarantine = [os.path.expanduser(self.quarantine)] if self.quarantine else []
        for path in [*sorted(self.files()), *quarantine]:
            if os.path.isfile(path):
                now = os.stat(path)
                facts = (path, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)
                found.update(repr(facts).encode("utf-8", "backslashreplace"))
        return found.hexdigest()[:16]

    def files(self) -> Iterable[str]:
        """Every file that the source may be read from."""
        known = self.path in builtin.SETS
        place = builtin.set_folder(self.path) if known else Path(self.path).expanduser()
        if not place.is_dir():
            return map(str, [place] if place.is_file() else place.parent.glob(place.name or "*"))
        seen: set[str] = set()
        found: list[str] = []
        for parent, folders, files in os.walk(place, followlinks=True):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
            seen.add(real)
            found += [os.path.join(parent, name) for name in files]
        return found

    def read(self) -> "Fingerprint":
        """Hash what is there now. DataError if it cannot be opened."""
        state = self.state()
        # Labels of a built-in set are in a file that only those open who may know them.
        own = self.label_column if self.path not in builtin.SETS else ""
        listing = open_listing(self.path)
        captions = read_captions(self.path, listing, self.prompt_column)
        pictures: list[str] = []
        ids: dict[str, str] = {}
        for row in listing.rows("looking for changes"):
            try:
                content = listing.content(row)
            except BadPicture as fault:
                pictures.append(str(fault))
                continue
            caption = pick_caption(captions[row], content)
            pictures.append(hashlib.sha256(content).hexdigest())
            ids[sample_id(content, caption)] = str(listing.names[row])
        quarantine = Path(self.quarantine).expanduser()
        held = quarantine.read_bytes() if self.quarantine and quarantine.is_file() else b""
        texts = [repr(one) for one in captions]
        columns = [texts, *(_column(listing, name) for name in (self.group_column, own))]
        digests = [_digest(part) for part in (pictures, *columns)]
        digests.append(hashlib.sha256(held).hexdigest()[:16])
        inside = not any(os.path.isabs(one) or ".." in one.split("/") for one in listing.names)
        return Fingerprint(
            len(listing), dict(zip(KINDS, digests, strict=True)), state if inside else "", ids
        )


@dataclass(frozen=True)
class Fingerprint:
    """Number of rows, a hash for each of :data:`KINDS`, and the state of the files.

    ``ids`` has the name of each picture by its sample id; it is not recorded.
    """

    count: int
    digests: Mapping[str, str]
    state: str
    ids: Mapping[str, str]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"count": self.count, "state": self.state, **self.digests}

    def differs(self, known: Mapping[str, Any]) -> list[str]:
        """What of :data:`KINDS` is other than in a record."""
        return [kind for kind in KINDS if self.digests[kind] != known.get(kind)]


def _column(listing: Listing, name: str) -> list[str]:
    return listing.table.text(name) if name else []


def _digest(values: Iterable[str]) -> str:
    found = hashlib.sha256()
    for value in values:
        found.update(f"{len(value)} {value}\n".encode("utf-8", "backslashreplace"))
    return found.hexdigest()[:16]
