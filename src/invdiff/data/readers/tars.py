"""Web data sets: .tar files in which the members of a sample share a key, `key.jpg`, `key.txt`.

A key ends at the last dot where picture and text agree on it, as in `22.05.png` and `22.05.txt`,
else at the first: what follows it names a part of the sample, as in `key.input.jpg`.
A file is read through once for its index; then each picture is read from its place in the file.
Nothing is unpacked.
"""

import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from invdiff.data.pictures import NOT_READ, SUFFIXES, BadPicture, one_line
from invdiff.data.readers.listing import Listing, SourceTable, json_row, several, told_of
from invdiff.data.samples import clean_prompt
from invdiff.errors import DataError

CAPTION = "caption"
TEXTS = (".txt", ".caption")
Members = list[tuple[str, Any]]
"""Names, with offset and number of bytes of a picture or the bytes of a text."""


@dataclass
class TarSample:
    """One sample: where its picture is, and what else there is."""

    tar: Path
    key: str
    pictures: list[tuple[str, int, int]] = field(default_factory=list)  # member, offset, bytes
    columns: dict[str, object] = field(default_factory=dict)
    written: bool = False  # whether the caption is from a caption file
    fault: BadPicture | None = None


def open_tars(paths: Sequence[Path]) -> Listing:
    """The samples of .tar files, one after the other. Raises DataError."""
    left: list[tuple[str, str]] = []
    entries = [entry for path in paths for entry in read_index(path, left)]
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
        told=told_of(left, [one.columns.get(CAPTION) for one in entries if one.written]),
    )


def read_index(path: Path, left: list[tuple[str, str]]) -> list[TarSample]:
    """The samples of a .tar file in the order of their first members; others go to ``left``."""
    members: Members = []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                stem, suffix = split_name(member.name)
                if member.isdir() or not stem:
                    continue
                if suffix in NOT_READ or (suffix in SUFFIXES and not member.isreg()):
                    kind = "it is no file" if suffix in SUFFIXES else "this kind is not read"
                    left.append((f"{path.name}/{member.name}", kind))
                elif suffix in SUFFIXES:
                    members.append((member.name, (member.offset_data, member.size)))
                elif suffix in (*TEXTS, ".json") and (stream := tar.extractfile(member)):
                    members.append((member.name, stream.read()))
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"{path} cannot be read as .tar: {one_line(error)}; is it complete, and without "
            "compression? (gunzip a .tar.gz)"
        ) from error
    return [sample_of(path, key, *found, left) for key, found in grouped(members).items()]


def grouped(members: Members) -> dict[str, tuple[Members, Members]]:
    """By key the members that are a sample, and those that are named as parts of it."""
    stems: tuple[set[str], set[str]] = (set(), set())  # of pictures, of texts
    for name, found in members:
        stems[isinstance(found, bytes)].add(split_name(name)[0])
    groups: dict[str, tuple[Members, Members]] = {}
    for name, found in members:
        stem, partners = split_name(name)[0], stems[not isinstance(found, bytes)]
        path = PurePosixPath(stem)
        short = str(path.with_name(path.name.partition(".")[0]))
        is_part = stem not in partners and short != stem and short in stems[0] | stems[1]
        groups.setdefault(short if is_part else stem, ([], []))[is_part].append((name, found))
    return groups


def sample_of(
    path: Path, key: str, own: Members, parts: Members, left: list[tuple[str, str]]
) -> TarSample:
    """One sample: of each kind its own members, or its parts where it has none of the kind."""
    sample = TarSample(path, key)
    for is_text in (False, True):
        mine = [one for one in own if isinstance(one[1], bytes) == is_text]
        others = [one for one in parts if isinstance(one[1], bytes) == is_text]
        if mine:
            left += [(f"{path.name}/{name}", f"a part of {key}") for name, _ in others]
        if not is_text:
            sample.pictures += [(name, *found) for name, found in mine or others]
            continue
        for name, found in one_caption(path, mine or others, left):
            add_text(sample, name, found, left)
    return sample


def one_caption(path: Path, texts: Members, left: list[tuple[str, str]]) -> Members:
    """The texts of a sample of which one is the caption; of those of one name the last counts."""
    kept = dict(texts)
    if len(kept) < len(texts):
        repeated = next(name for name, count in Counter(n for n, _ in texts).items() if count > 1)
        left.append((f"{path.name}/{repeated}", "it comes more than once, the last counts"))
    captions = [name for suffix in TEXTS for name in kept if split_name(name)[1] == suffix]
    for name in captions[1:]:
        left.append((f"{path.name}/{name}", f"{captions[0]} is the caption"))
        del kept[name]
    return list(kept.items())


def split_name(name: str) -> tuple[str, str]:
    """A member's name up to its last dot, "" for hidden ones, and its suffix."""
    path = PurePosixPath(name)
    return "" if path.name.startswith(".") else str(path.with_suffix("")), path.suffix.lower()


def add_text(entry: TarSample, member: str, content: bytes, left: list[tuple[str, str]]) -> None:
    """Take in a caption file, or the keys of a JSON object; a caption file comes first."""
    suffix = split_name(member)[1]
    try:
        text = content.decode("utf-8-sig")
        values = {CAPTION: several(text)} if suffix in TEXTS else json_row(text)
        if not isinstance(values, dict):
            raise ValueError("it is not a JSON object")
    except (ValueError, RecursionError) as error:
        reason = f"its member {suffix} cannot be read: {one_line(error)}"
        entry.fault = BadPicture(reason, "no caption")
        return
    captions = [one[CAPTION] for one in (entry.columns, values) if CAPTION in one]
    if len({clean_prompt(one) if isinstance(one, str) else repr(one) for one in captions}) > 1:
        left.append(
            (
                f"{entry.tar.name}/{entry.key}",
                "its caption file and its .json differ: the file counts",
            )
        )
    entry.written |= suffix in TEXTS
    entry.columns = entry.columns | values if suffix in TEXTS else values | entry.columns


def sample_fault(entry: TarSample) -> BadPicture | None:
    """What is known to be wrong with a sample from the start."""
    if not entry.pictures:
        return BadPicture(f"no picture beside its other members ({entry.key})", "missing")
    if len(entry.pictures) > 1:
        names = " and ".join(member for member, _, _ in entry.pictures)
        return BadPicture(f"more than one picture of one key: {names}", "unreadable")
    return entry.fault
