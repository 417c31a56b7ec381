"""Web data sets: .tar files in which the members of a sample share a key, `key.jpg`, `key.txt`.

A file is read through once for its index; then each picture is read from its place in the file.
Nothing is unpacked.
"""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from invdiff.data.pictures import SUFFIXES, BadPicture, one_line
from invdiff.data.readers.listing import Listing, SourceTable
from invdiff.errors import DataError

CAPTION = "caption"
TEXTS = (".txt", ".caption")


@dataclass
class TarSample:
    """One sample: where its picture is, and what else there is."""

    tar: Path
    key: str
    pictures: list[tuple[str, int, int]] = field(default_factory=list)  # member, offset, bytes
    columns: dict[str, object] = field(default_factory=dict)
    fault: BadPicture | None = None


def open_tars(paths: Sequence[Path]) -> Listing:
    """The samples of .tar files, one after the other. Raises DataError."""
    entries = [entry for path in paths for entry in read_index(path)]
    place = paths[0] if len(paths) == 1 else paths[0].parent
    if not any(entry.pictures for entry in entries):
        raise DataError(f"{place} holds no pictures ({', '.join(SUFFIXES)})")
    columns = tuple(dict.fromkeys(name for entry in entries for name in entry.columns))

    def load(row: int) -> bytes:
        entry = entries[row]
        member, offset, count = entry.pictures[0]
        with entry.tar.open("rb") as stream:
            stream.seek(offset)
            read = stream.read(count)
        if len(read) < count:
            raise BadPicture(f"{entry.tar.name} ends within {member}", "truncated")
        return read

    return Listing(
        names=[
            f"{one.tar.name}/{one.pictures[0][0] if one.pictures else one.key}" for one in entries
        ],
        table=SourceTable(place, columns, lambda name: [one.columns.get(name) for one in entries]),
        load=load,
        faults={row: fault for row, one in enumerate(entries) if (fault := sample_fault(one))},
    )


def read_index(path: Path) -> list[TarSample]:
    """The samples of a .tar file in the order of their first members."""
    entries: dict[str, TarSample] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, suffix = key_and_suffix(member.name)
                if not member.isreg() or not key:
                    continue
                if suffix in SUFFIXES:
                    place = (member.name, member.offset_data, member.size)
                    entries.setdefault(key, TarSample(path, key)).pictures.append(place)
                elif suffix in (*TEXTS, ".json"):
                    stream = tar.extractfile(member)
                    assert stream is not None, "a regular member has content"
                    add_text(entries.setdefault(key, TarSample(path, key)), suffix, stream.read())
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"{path} cannot be read as .tar: {one_line(error)}; is it complete, and without "
            "compression? (gunzip a .tar.gz)"
        ) from error
    return list(entries.values())


def key_and_suffix(name: str) -> tuple[str, str]:
    """Key and suffix: the base name is cut at its first dot, hidden members have no key."""
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return ((path.parent / stem).as_posix() if stem else ""), f".{suffix.lower()}"


def add_text(entry: TarSample, suffix: str, content: bytes) -> None:
    """Take in a caption file, or the keys of a JSON object; a caption file comes first."""
    try:
        text = content.decode("utf-8-sig")
        values = {CAPTION: text} if suffix in TEXTS else json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("it is not a JSON object")
    except (ValueError, RecursionError) as error:
        reason = f"its member {suffix} cannot be read: {one_line(error)}"
        entry.fault = BadPicture(reason, "no caption")
        return
    entry.columns = entry.columns | values if suffix in TEXTS else values | entry.columns


def sample_fault(entry: TarSample) -> BadPicture | None:
    """What is known to be wrong with a sample from the start."""
    if not entry.pictures:
        return BadPicture(f"no picture beside its other members ({entry.key})", "missing")
    if len(entry.pictures) > 1:
        names = " and ".join(member for member, _, _ in entry.pictures)
        return BadPicture(f"more than one picture of one key: {names}", "unreadable")
    return entry.fault
