"""The suite on every set: what is asked for, in which order, and a table after each set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from invdiff.data.sets import builtin
from invdiff.data.sources import read_labels
from invdiff.engine.encoding.session import open_data
from invdiff.engine.run.results import Results
from invdiff.errors import ConfigError
from invdiff.model.vision.attribute_classifier import SIZE
from invdiff.studies.benchmarking import jobs, method_tables
from invdiff.studies.benchmarking.measured import read_runs, tidy
from invdiff.studies.benchmarking.method_tables import ROWS, write_method
from invdiff.studies.benchmarking.suites import OURS

PARTS = ("found", "balanced")
"""Discovery with every estimator; runs of the rows that balance a model. The cheap one first."""
ESTIMATOR = ("discover.estimator", "study.estimator")
LABELLED = "data."
"""Settings below this say which pictures and labels there are; the suite's sets have their own."""


def benchmark_method(
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
    asked = asked_sets(names, seeds)
    require_own_settings(asked, changes)
    unbuilt = [] if names else [name for name in builtin.SETS if name not in asked]
    if unbuilt:
        print(f"not built, left out: {', '.join(unbuilt)} (invdiff data build NAME)", flush=True)
    earlier = [name for name in builtin.SETS if is_built(name) and (out / name).is_dir()]
    shown = [name for name in builtin.SETS if name in {*asked, *earlier}]
    rows = {name: read_set(name, seeds, out / name) for name in shown}
    todo = [(one, name) for one in parts for name in asked]
    table = write_up(out, rows, seeds, todo, unbuilt)
    for one, name in todo:
        do_part(one, name, seeds, out / name, changes)
        rows[name] = read_set(name, seeds, out / name)
        write_up(out, rows, seeds, todo, unbuilt)
    return table


def require_own_settings(names: Sequence[str], changes: Sequence[str]) -> None:
    """ConfigError unless all runs of the sets can be given these settings."""
    for name in names:
        jobs.require_changes(name, changes)
    for key in (change.partition("=")[0] for change in changes):
        if key in ESTIMATOR or key.startswith(LABELLED):
            raise ConfigError(f"--{key}: the suite has its own; leave it out")


def jobs_of(
    part: str, name: str, seeds: int, place: Path, changes: Sequence[str] = ()
) -> list[jobs.Job]:
    """All there are to do for a part of a set, those that the others take from first."""
    root, own = str(place), tuple(changes)
    if part == "found":
        return [
            jobs.Job(root, name, OURS, seed, own, estimator)
            for estimator in method_tables.NAMES
            for seed in range(seeds)
        ]
    return [jobs.Job(root, name, row, seed, own) for row in ROWS for seed in range(seeds)]


def do_part(part: str, name: str, seeds: int, place: Path, changes: Sequence[str] = ()) -> None:
    """Do what is missing of a part of a set; the time goes to ``<part>-time.json``."""
    todo = jobs_of(part, name, seeds, place, changes)
    jobs.do_missing(todo, place / f"{part}-time.json", f"{name}: {part}")


def asked_sets(names: Sequence[str], seeds: int) -> list[str]:
    """The sets that were asked for, in the order of the tables."""
    for name in names or builtin.SETS:
        jobs.require_benchmark(name, seeds)
    for name in names:
        builtin.require_built(name)
    return [name for name in builtin.SETS if (name in names if names else is_built(name))]


def is_built(name: str) -> bool:
    """Whether the set ``name`` comes with the package or was built."""
    return builtin.set_folder(name).is_dir()


def finished(part: str, name: str, seeds: int, place: Path) -> list[jobs.Job]:
    """The jobs of a part of a set that are done, whatever their settings."""
    return [job for job in jobs_of(part, name, seeds, place) if job.is_done()]


def read_set(name: str, seeds: int, place: Path) -> pd.DataFrame:
    """The tidy table of what is complete of a set; nothing is made."""
    searches, runs = (finished(part, name, seeds, place) for part in PARTS)
    tables = [read_runs(runs).rows] if runs else []
    if searches:
        section = searches[0].config().data  # no change is about the data
        data = open_data(section, SIZE)
        found = tidy(method_tables.discovery_lines(searches, data))
        if len(set(read_labels(section.path, section.label_column, data))) < 3:
            # of two labels the other metrics tell as much
            found = found[found["metric"] != "adjusted_rand"]
        tables.insert(0, found)
    return pd.concat(tables, ignore_index=True) if tables else tidy([])


def write_up(
    out: Path,
    rows: Mapping[str, pd.DataFrame],
    seeds: int,
    asked: Sequence[tuple[str, str]],
    unbuilt: Sequence[str],
) -> Path:
    """Write the tables of what there is; parts and sets that were ``asked`` for may lack some."""
    done = {(p, name): finished(p, name, seeds, out / name) for name in rows for p in PARTS}
    every = {(p, name): jobs_of(p, name, seeds, out / name) for p, name in done}
    left = {
        key: [
            f"{job.estimator or job.row}, seed {job.seed}"
            for job in every[key]
            if job not in done[key]
        ]
        for key in asked
    }
    seconds = {key: jobs.wall_seconds(out / key[1] / f"{key[0]}-time.json") for key in done}
    facts = {
        "sets": list(rows),
        "seeds": list(range(seeds)),
        "images_per_prompt": {
            name: Results(done["balanced", name][0].folder).metrics.protocol["images_per_prompt"]
            for name in rows
            if done["balanced", name]
        },
        "missing": [
            {"part": part, "set": name, "names": names, "of": len(every[part, name])}
            for (part, name), names in left.items()
            if names
        ],
        "not_built": unbuilt,
        "wall_seconds": {
            name: {p: seconds[p, name] for p in PARTS if seconds[p, name]} for name in rows
        },
        "changes": {
            name: {
                # two values of one setting show that the runs differ
                p: list(dict.fromkeys(c for job in done[p, name] for c in job.changed_settings()))
                for p in PARTS
                if done[p, name]
            }
            for name in rows
        },
    }
    known = [table for table in rows.values() if len(table)]
    return write_method(out, pd.concat(known, ignore_index=True) if known else tidy([]), facts)
