"""A split in which the groups have a given ratio: which pictures stay."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from invdiff.data.sets.official.archive import ArchivePicture
from invdiff.errors import ConfigError, DataError


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
        kept |= set(sorted(files, key=lambda file: lot_of(seed, file))[: unit * part])
    return [entry for entry in entries if entry.file in kept]


def lot_of(seed: int, file: str) -> bytes:
    """The lot of a picture: it depends on the seed and its name alone."""
    return hashlib.blake2b(f"{seed}/{file}".encode(), digest_size=16).digest()
