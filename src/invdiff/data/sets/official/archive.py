"""What the benchmarks' official archives have in common: their files, and splits by group ratio."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from PIL import Image

from invdiff.data.pictures import formats, one_line
from invdiff.data.readers.listing import SourceTable
from invdiff.errors import ConfigError, DataError
from invdiff.terminal import Bar

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = {"0": TRAIN, "1": VALIDATION, "2": TEST}  # as label files code them
PACKED = (".zip", ".tar.gz", ".tgz", ".7z", ".rar")

Counts = Mapping[str, Mapping[str, int]]
"""Pictures by split and by a class of the set, such as {"train": {"landbird on land": 3498}}."""


@dataclass(frozen=True)
class Published:
    """What is known of the official archive, to hold a copy against.

    `counts` are pictures by split and class; `md5` the digests of label files whose publisher or
    a widely used loader gives them; `size` the width and height of every picture, where all agree.
    """

    counts: Counts
    md5: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class ArchivePicture:
    """One picture of a benchmark: `file` is its path inside the archive's picture folder."""

    file: str
    split: str
    caption: str
    group: str
    attributes: Mapping[str, str]

    @classmethod
    def of_columns(cls, *columns: Sequence[str], **attributes: Sequence[str]) -> tuple[Self, ...]:
        """The pictures of columns: file, split, caption, group, then the attributes."""
        others = [
            dict(zip(attributes, row, strict=True))
            for row in zip(*attributes.values(), strict=True)
        ]
        return tuple(cls(*row) for row in zip(*columns, others, strict=True))


@dataclass(frozen=True)
class Archive:
    """A checked archive; `checked` and `notes` say in words what was checked and what to know."""

    pictures: Path
    entries: tuple[ArchivePicture, ...]
    checked: tuple[str, ...]
    notes: tuple[str, ...] = ()


def altered(what: str) -> DataError:
    """The error for a file that is not as it was published."""
    return DataError(f"{what}; take it from the official archive again")


def find_file(folder: Path, *candidates: str) -> Path:
    """The first of `candidates` below `folder`. DataError says what is missing, or still packed."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give --from the folder of the unpacked archive")
    for name in candidates:
        if (folder / name).exists():
            return folder / name
    for name in candidates:
        for place in (folder / name, folder / Path(name).parts[0]):
            packed = [place.with_name(place.name + suffix) for suffix in PACKED]
            if found := next((path for path in packed if path.is_file()), None):
                raise DataError(f"{found} is still packed; unpack it there and try again")
    wanted = " or ".join(candidates)
    raise DataError(f"{folder} has no {wanted}; give --from the folder of the unpacked archive")


def check_md5(path: Path, published: Published) -> None:
    """DataError when a label file is not the published one."""
    if path.name not in published.md5:
        return
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() != published.md5[path.name]:
        raise altered(
            f"{path} is not the published file: its MD5 is {digest.hexdigest()}, "
            f"not {published.md5[path.name]}"
        )


def check_counts(
    path: Path, names: Sequence[str], kinds: Iterable[tuple[str, str]], published: Counts
) -> None:
    """DataError when `path` lists a picture twice, or other numbers of (split, class)."""
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise altered(f"{path} lists {name} {count} times")
    found = Counter(kinds)
    wanted = {(split, one): n for split, classes in published.items() for one, n in classes.items()}
    wrong = [key for key in sorted(wanted | found) if found[key] != wanted.get(key, 0)]
    if wrong:
        split, name = wrong[0]
        more = f" (and {len(wrong) - 1} other numbers differ)" if len(wrong) > 1 else ""
        raise altered(
            f"{path} lists {found[wrong[0]]} pictures of {name!r} in the {split} split, the "
            f"published set has {wanted.get(wrong[0], 0)}{more}"
        )


def check_pictures(folder: Path, names: Sequence[str], size: tuple[int, int] | None) -> str:
    """Read every picture to its end; returns what was checked, in words.

    Raises DataError that names the first picture that is missing or altered.
    """
    faults = []
    for name in Bar(names, desc="checking pictures", unit=" pictures", disable=None, leave=False):
        if fault := file_fault(folder / name, size):
            faults.append((folder / name, fault))
    if faults:
        path, fault = faults[0]
        raise DataError(
            f"{path} {fault} ({len(faults)} of {len(names)} pictures are missing or altered); "
            "unpack the official archive again"
        )
    pixels = f", {size[0]} x {size[1]} pixels each" if size else ""
    return f"{len(names):,} pictures: all there and readable{pixels}"


def file_fault(path: Path, size: tuple[int, int] | None) -> str:
    """What is wrong with a picture file, "" if nothing is."""
    try:
        with Image.open(path, formats=formats()) as image:
            if size and image.size != size:
                return f"has {image.size[0]} x {image.size[1]} pixels, not {size[0]} x {size[1]}"
            image.draft("L", (1, 1))  # a JPEG is read to its end, at an eighth of its size
            image.load()
    except FileNotFoundError:
        return "is missing"
    except Exception as error:  # decoders meet damaged bytes with whatever they run into
        return f"cannot be read: {one_line(error)}"
    return ""


def coded(table: SourceTable, column: str, names: Mapping[str, str]) -> list[str]:
    """A column of codes by their names. DataError for a code that has none."""
    values = table.text(column)
    for row, value in enumerate(values, start=1):
        if value not in names:
            raise altered(
                f"{table.path}, row {row}: {column} is {value!r}, which is none of "
                f"{', '.join(names)}"
            )
    return [names[value] for value in values]


def parse_ratio(text: str, groups: Sequence[str]) -> tuple[int, ...]:
    """`3:2:1:1` as numbers, one for each group in their order; 0 leaves a group out.

    Raises ConfigError.
    """
    parts = text.split(":")
    if not all(part.strip().isdecimal() for part in parts) or not any(map(int, parts)):
        raise ConfigError(
            f"--ratio {text}: must be whole numbers with colons between them, not all 0, "
            f"as in {':'.join('1' for _ in groups)}"
        )
    if len(parts) != len(groups):
        raise ConfigError(
            f"--ratio {text}: has {len(parts)} parts, there are {len(groups)} groups "
            f"({'; '.join(groups)})"
        )
    return tuple(map(int, parts))


def by_ratio(
    entries: Sequence[ArchivePicture], groups: Sequence[str], ratio: Sequence[int], seed: int
) -> list[ArchivePicture]:
    """As many pictures as the scarcest group allows, in the order of `entries`.

    Whether a picture stays depends on the seed and the names in its group, not on the order of
    the archive; a smaller split is part of a larger one with the same seed. Raises DataError when
    a group has too few pictures for its part.
    """

    def lot(file: str) -> bytes:
        return hashlib.blake2b(f"{seed}/{file}".encode(), digest_size=16).digest()

    held = Counter(entry.group for entry in entries)
    parts = {group: part for group, part in zip(groups, ratio, strict=True) if part}
    scarce = min(parts, key=lambda group: held[group] / parts[group])
    unit = held[scarce] // parts[scarce]
    if unit == 0:
        raise DataError(
            f"the group {scarce!r} has {held[scarce]} pictures, too few for its part of "
            f"{parts[scarce]} in the ratio; give it a smaller one"
        )
    kept = set()
    for group, part in parts.items():
        files = [entry.file for entry in entries if entry.group == group]
        kept |= set(sorted(files, key=lot)[: unit * part])
    return [entry for entry in entries if entry.file in kept]
