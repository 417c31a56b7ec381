"""The suite on every set: what is asked for, in which order, and a table after each set."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from invdiff.data.sets import builtin
from invdiff.data.sources import read_labels
from invdiff.engine.encoding.data import open_data
from invdiff.engine.storage.files import read_json
from invdiff.errors import ConfigError
from invdiff.model.vision.attribute_classifier import SIZE
from invdiff.studies.benchmarking import rows as rows
from invdiff.studies.benchmarking.method import balanced, found
from invdiff.studies.benchmarking.method.summaries import Result
from invdiff.studies.benchmarking.method.writing import write

PARTS: Mapping[str, Callable[[str, int, Path, Sequence[str]], None]] = {
    "found": found.run,
    "balanced": balanced.run,
}
ESTIMATOR = ("discover.estimator", "study.estimator")
LABELLED = "data."
"""Settings below this say which pictures and labels there are; the suite's sets have their own."""


def benchmark(
    names: Sequence[str],
    seeds: int,
    out: Path,
    part: str | None = None,
    changes: Sequence[str] = (),
) -> Path:
    """Do what is missing for seeds 0..seeds-1, one set after the other; returns ``method.md``.

    Without ``names`` all sets that are there, without a ``part`` both. The files are written before
    the work, from what earlier calls have done, and after each set. ``changes`` are settings of all
    runs of this call, such as ``sample.images_per_prompt=100``; the tables name them.

    Raises:
        ConfigError: there is no such set or part, fewer than one seed, or a change that is no
            setting.
        DataError: a set that was named is not there.
        RunError: a run folder below ``out`` was made with other settings.
    """
    if part is not None and part not in PARTS:
        raise ConfigError(f"there is no part {part!r}: one of {', '.join(PARTS)}")
    parts = [part] if part else list(PARTS)
    asked = sets(names, seeds)
    for name in asked:
        rows.require_changes(name, changes)
    for key in (change.partition("=")[0] for change in changes):
        if key in ESTIMATOR or key.startswith(LABELLED):
            raise ConfigError(f"--{key}: the suite of the method has its own; leave it out")
    unbuilt = [] if names else [name for name in builtin.SETS if name not in asked]
    if unbuilt:
        print(f"not built, left out: {', '.join(unbuilt)} (invdiff data build NAME)", flush=True)
    earlier = [name for name in builtin.SETS if here(name) and (out / name).is_dir()]
    results = {
        name: read(name, seeds, out / name) for name in builtin.SETS if name in {*asked, *earlier}
    }
    todo = [(one, name) for one in parts for name in asked]
    table = write_up(out, results, seeds, todo, unbuilt)
    for one, name in todo:
        PARTS[one](name, seeds, out / name, changes)
        results[name] = read(name, seeds, out / name)
        write_up(out, results, seeds, todo, unbuilt)
    return table


def write_up(
    out: Path,
    results: Mapping[str, Result],
    seeds: int,
    asked: Sequence[tuple[str, str]],
    unbuilt: Sequence[str],
) -> Path:
    """Write the tables of what there is; parts and sets that were ``asked`` for may lack some."""
    lacking = [missing(part, results[name], seeds) for part, name in asked]
    left = [entry for entry in lacking if entry["names"]]
    seconds = wall_seconds(out, results)
    return write(out, list(results.values()), seeds, left, unbuilt, seconds)


def sets(names: Sequence[str], seeds: int) -> list[str]:
    """The sets that were asked for, in the order of the tables."""
    for name in names or builtin.SETS:
        rows.require(name, seeds)
    for name in names:
        builtin.require(name)
    return [name for name in builtin.SETS if (name in names if names else here(name))]


def here(name: str) -> bool:
    """Whether the set ``name`` comes with the package or was built."""
    return builtin.set_folder(name).is_dir()


def read(name: str, seeds: int, place: Path) -> Result:
    """What is complete of a set; nothing is made."""
    searches = [one for one in found.searches(name, seeds, place) if found.done(one)]
    jobs = [job for job in balanced.jobs(name, seeds, place) if balanced.done(job)]
    runs, changes = [balanced.read(job) for job in jobs], {}
    if searches:
        changes["found"] = _together(map(found.changes, searches))
    if jobs:
        changes["balanced"] = _together(map(balanced.changes, jobs))
    if not searches:
        return Result(name, 0, (), tuple(runs), changes)
    section = found.settings(searches[0]).data  # no change is about the data
    data = open_data(section, SIZE)
    labels = len(set(read_labels(section.path, section.label_column, data)))
    return Result(
        name, labels, tuple(found.read(one, data) for one in searches), tuple(runs), changes
    )


def _together(changes: Iterable[Sequence[str]]) -> list[str]:
    """Every setting that some run has; two values of one show that the runs differ."""
    return list(dict.fromkeys(change for own in changes for change in own))


def missing(part: str, result: Result, seeds: int) -> dict[str, Any]:
    """What is not complete of a part of a set."""
    if part == "found":
        wanted = [(name, seed) for name in found.NAMES for seed in range(seeds)]
        done = {(one.estimator, one.seed) for one in result.found}
    else:
        wanted = [(row, seed) for row in balanced.ROWS for seed in range(seeds)]
        done = {(run["row"], run["seed"]) for run in result.balanced}
    names = [f"{name}, seed {seed}" for name, seed in wanted if (name, seed) not in done]
    return {"part": part, "set": result.name, "names": names, "of": len(wanted)}


def wall_seconds(out: Path, names: Iterable[str]) -> dict[str, dict[str, float]]:
    """The wall time of each set and part over all sessions, where there is any."""
    known: dict[str, dict[str, float]] = {name: {} for name in names}
    for name, times in known.items():
        for part in PARTS:
            path = out / name / f"{part}-time.json"
            if path.is_file():
                times[part] = read_json(path)["wall_seconds"]
    return known
