"""What the groups do: runs of the rows that balance a model, at three guidance scales."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from invdiff.engine.run.folder import RunFolder
from invdiff.studies.benchmarking import rows as rows
from invdiff.studies.benchmarking import tables
from invdiff.studies.benchmarking.method import found
from invdiff.studies.benchmarking.suites import ORACLE, OURS

ROWS = ("reference recipe", "top loss", OURS, ORACLE)


def jobs(name: str, seeds: int, place: Path, changes: Sequence[str] = ()) -> list[rows.Job]:
    """All runs on a set; ``changes`` are settings of all of them."""
    root, own = str(place), tuple(changes)
    return [rows.Job(root, name, row, seed, own) for row in ROWS for seed in range(seeds)]


def done(job: rows.Job) -> bool:
    """Whether it is; makes nothing."""
    folder = rows.folder_of(Path(job.root), job.row, job.seed)
    return RunFolder.is_run(folder) and RunFolder.read(folder).done("evaluate")


def run(name: str, seeds: int, place: Path, changes: Sequence[str] = ()) -> None:
    """Do the runs that are missing; the time goes to ``balanced-time.json``."""
    known = jobs(name, seeds, place, changes)
    left = [job for job in known if not rows.open_run(job).done("evaluate")]
    if not left:
        return
    for seed in range(seeds):
        computed = found.folder_of(place, found.DEFAULT, seed)
        rows.share_cache(computed, rows.folder_of(place, OURS, seed))
    with rows.timed(place / "balanced-time.json") as keep_time:
        rows.run_rows(left, known, keep_time)


def changes(job: rows.Job) -> list[str]:
    """The settings of a run that is there which are not the suite's own."""
    own = RunFolder.read(rows.folder_of(Path(job.root), job.row, job.seed)).config
    return rows.changed(own, rows.settings(job.name, job.row, job.seed))


def read(job: rows.Job) -> dict[str, Any]:
    """What the tables need of one run."""
    folder = rows.folder_of(Path(job.root), job.row, job.seed)
    return tables.read(folder, job.row, job.seed)
