"""From a benchmark's official archive to folders that a run reads.

A split becomes a folder with `metadata.parquet` and the link `pictures` to the archive's own
picture folder: no picture is copied, and an archive that was moved needs one new link a split.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from invdiff.data.sets.official import celeba, fairface, waterbirds
from invdiff.data.sets.official.archive import (
    TRAIN,
    Archive,
    ArchivePicture,
    Published,
    by_ratio,
    parse_ratio,
)
from invdiff.engine.storage.files import new_folder, write_json, write_parquet
from invdiff.errors import ConfigError, DataError

LINK = "pictures"


@dataclass(frozen=True)
class Benchmark:
    """How an archive is read, its groups in the order of a ratio's parts, what it must hold."""

    read: Callable[[Path, Published], Archive]
    groups: tuple[str, ...]
    published: Published


BENCHMARKS: Mapping[str, Benchmark] = {
    "waterbirds": Benchmark(waterbirds.read, waterbirds.GROUPS, waterbirds.PUBLISHED),
    "celeba": Benchmark(celeba.read, celeba.GROUPS, celeba.PUBLISHED),
    "fairface": Benchmark(fairface.read, fairface.GROUPS, fairface.PUBLISHED),
}


def prepare(
    name: str,
    source: Path,
    out: Path,
    ratio: str = "",
    seed: int = 0,
    published: Published | None = None,
) -> Path:
    """Check the archive at `source` and write its splits below `out`; returns `out`.

    Args:
        name: one of BENCHMARKS.
        source: folder of the unpacked archive.
        out: a new folder; it appears when everything in it is complete.
        ratio: ratio of the groups in the training split, as in "3:2:1:1"; "" keeps all pictures.
        seed: chooses the pictures that a ratio keeps.
        published: what to hold the archive against; None takes the published figures.

    Raises:
        ConfigError: no such benchmark, or a ratio that does not fit its groups.
        DataError: the archive is incomplete or altered.
        RunError: `out` is there already.
    """
    if name not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark {name!r}: one of {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    parts = parse_ratio(ratio, benchmark.groups) if ratio else ()
    with new_folder(out) as stage:
        archive = benchmark.read(source.expanduser(), published or benchmark.published)
        splits: dict[str, list[ArchivePicture]] = {}
        for entry in archive.entries:
            splits.setdefault(entry.split, []).append(entry)
        if parts:
            splits[TRAIN] = by_ratio(splits[TRAIN], benchmark.groups, parts, seed)
        for split, entries in splits.items():
            write_split(stage / split, entries, archive.pictures.resolve())
        held = {split: Counter(entry.group for entry in splits[split]) for split in splits}
        record = {
            "benchmark": name,
            "ratio": ratio or None,
            "seed": seed,
            "source": archive.pictures.resolve(),
            "checked": archive.checked,
            "notes": archive.notes,
            # the groups in the order of a ratio's parts
            "splits": {split: {g: held[split][g] for g in benchmark.groups} for split in held},
        }
        write_json(stage / "preparation.json", record)
    return out


def write_split(folder: Path, entries: Sequence[ArchivePicture], pictures: Path) -> None:
    """`metadata.parquet` with a row for each picture, beside the link to the pictures."""
    rows = [
        {
            "file_name": f"{LINK}/{entry.file}",
            "caption": entry.caption,
            "group": entry.group,
            **entry.attributes,
        }
        for entry in entries
    ]
    write_parquet(folder / "metadata.parquet", pa.Table.from_pylist(rows))
    try:
        (folder / LINK).symlink_to(pictures, target_is_directory=True)
    except OSError as error:
        raise DataError(
            f"no link to {pictures} can be made below {folder.parent} ({error.strerror}): "
            "give --out a place that allows symbolic links"
        ) from error
