"""The benchmark: the default recipe beside the other rows of a suite.

``benchmark("faces", seeds, out)`` makes one run folder for each row and seed below ``out``, all of
them resumable, and writes ``table.md``, ``table.csv`` and ``summary.json``. Suites share the runs.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from invdiff.engine.base_model.loading import device_of
from invdiff.engine.discovery.discover import discover
from invdiff.engine.distributed.pool import run_shards, worker_count
from invdiff.engine.evaluation.evaluate import evaluate
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.sampling.sample import sample
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.settings.config import Config
from invdiff.engine.storage.files import read_json, write_json, write_with
from invdiff.engine.training.train import train
from invdiff.errors import ConfigError
from invdiff.studies import comparison as compared
from invdiff.studies.benchmarking import suite_tables, tables
from invdiff.studies.benchmarking.suites import DOWNSTREAM, METHOD, OURS, ROWS, SUFFIX, SUITES

SCALES = (1.0, 2.5, 5.0)
DRAWN = (f"sample.guidance_scales={list(SCALES)}",)
OWN = ("seed", "processes", "train.processes")
"""Settings that :func:`settings` decides."""
ASKED = ", diverse"
"""What the row with a suffix adds to a prompt: the built-in models read 16 tokens."""
CONTROLS = next(iter(SUITES))

compared.register()

Work = TypeVar("Work")


class Job(NamedTuple):
    """One row and seed of a benchmark; ``changes`` are settings of all its rows."""

    root: str
    name: str
    row: str
    seed: int
    changes: tuple[str, ...] = ()


def benchmark(
    name: str,
    seeds: int,
    out: Path,
    suite: str = CONTROLS,
    rows: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> Path:
    """Run every row of a suite with seeds 0..seeds-1; returns the ``table.md`` that it wrote.

    What an earlier call has done is skipped, whichever suite it was for. With ``rows`` only these
    are run, beside the method's own; the tables have what else of the suite is done. ``changes``
    are settings of all rows, such as ``train.steps=400``.

    Raises:
        ConfigError: there is no such benchmark, suite or row, fewer than one seed, or a change that
            is no setting.
        RunError: a run folder below ``out`` was made with other settings.
    """
    require(name, seeds)
    if suite not in SUITES:
        names = ", ".join([*SUITES, DOWNSTREAM, METHOD])
        raise ConfigError(f"there is no suite {suite!r}: one of {names}")
    require_changes(name, changes)
    every = [
        Job(str(out), name, row, seed, tuple(changes))
        for row in SUITES[suite]
        for seed in range(seeds)
    ]
    asked = chosen(suite, rows)
    jobs = [job for job in every if job.row in asked]
    left = [job for job in jobs if not open_run(job).done("evaluate")]
    place = out if suite == CONTROLS else out / suite
    if left:
        with timed(place / "benchmark.json") as keep_time:
            run_rows(left, jobs, keep_time)
    shown = [job for job in every if job.row in asked or there(job)]
    found = [tables.read(folder_of(out, job.row, job.seed), job.row, job.seed) for job in shown]
    comparison = tables.comparison(found, OURS)
    for seed in range(seeds):
        write_json(folder_of(out, OURS, seed) / "comparison.json", comparison)
    if suite == CONTROLS:
        return tables.write(place, found, OURS)
    return suite_tables.write(place, found, suite, options(suite, found, changes))


def chosen(suite: str, rows: Sequence[str]) -> set[str]:
    """The rows that were asked for, blanks in their names as they are or as hyphens; all for none.

    The method's own is always among them: the others take its discovery.
    """
    known = {slug(row): row for row in SUITES[suite]}
    unknown = [row for row in rows if slug(row) not in known]
    if unknown:
        raise ConfigError(f"there is no row {unknown[0]!r}: some of {', '.join(known)}")
    return {OURS, *(known[slug(row)] for row in rows)} if rows else set(known.values())


def options(suite: str, found: Sequence[Mapping[str, Any]], changes: Sequence[str]) -> list[str]:
    """The words of the command that makes the tables of the runs ``found``."""
    names = dict.fromkeys(slug(run["row"]) for run in found)
    some = ["--rows", *names] if len(names) < len(SUITES[suite]) else []
    return [*some, *(f"--{change}" for change in changes)]


def there(job: Job) -> bool:
    """Whether its run is done, with the same settings; makes nothing."""
    folder = folder_of(Path(job.root), job.row, job.seed)
    if not RunFolder.is_run(folder):
        return False
    run = RunFolder.read(folder)
    same = run.config == settings(job.name, job.row, job.seed, 1, job.changes)
    return same and run.done("evaluate")


def require(name: str, seeds: int) -> None:
    """ConfigError unless there is such a benchmark, for at least one seed."""
    if name not in EMBEDDED_SETS:
        raise ConfigError(
            f"there is no benchmark {name!r}: one of {', '.join(sorted(EMBEDDED_SETS))}"
        )
    if seeds < 1:
        raise ConfigError(f"--seeds is {seeds}: at least 1 is needed")


def require_changes(name: str, changes: Sequence[str]) -> None:
    """ConfigError unless all rows can be given these settings."""
    configuration.preset(name, changes)
    for change in changes:
        if (key := change.partition("=")[0]) in OWN:
            raise ConfigError(f"--{key}: a benchmark has its own; leave it out")


def run_rows(left: list[Job], jobs: list[Job], after_each: Callable[[], None]) -> None:
    """Do ``left`` of ``jobs``, several rows at a time, under one bar.

    Discovery comes first, with all processes on one seed: the other rows share what it computed.
    """
    for job in jobs:
        if job.row == OURS and not open_run(job).done("discover"):
            print(f"discovery with seed {job.seed}", flush=True)
            discover(open_run(job, processes=0))
            after_each()
    beside_each_other(run_row, left, len(jobs) - len(left), after_each, "rows", "row")


def beside_each_other(
    work: Callable[[Work], Any],
    left: Sequence[Work],
    done: int,
    after_each: Callable[[], None],
    title: str,
    unit: str,
) -> None:
    """Do what is ``left``, several at a time, under one bar; ``done`` others were done before."""
    processes = worker_count(0, device_of("auto"))
    results = run_shards(
        work, left, processes=processes, title=title, unit=unit, done=done, quiet=True
    )
    for _ in results:
        after_each()


def settings(
    name: str, row: str, seed: int, processes: int = 1, changes: Sequence[str] = ()
) -> Config:
    """The settings of one row and seed; rows run beside each other, so each trains alone."""
    own = [*DRAWN, *changes]
    own += [f"seed={seed}", f"processes={processes}", "train.processes=1"]
    if row == SUFFIX:
        own.append(f"sample.prompt_suffix={json.dumps(ASKED)}")
    own += ROWS[row].changes
    return configuration.preset(name, own)


def changed(own: Config, usual: Config) -> list[str]:
    """What ``own`` has other than ``usual``, as ``key=value``; nothing about processes."""
    before, after = configuration.flatten(usual), configuration.flatten(own)
    different = [key for key in after if key not in OWN and after[key] != before[key]]
    return [f"{key}={json.dumps(after[key])}" for key in different]


def folder_of(out: Path, row: str, seed: int) -> Path:
    """The run folder of one row and seed."""
    return out / f"seed-{seed}" / slug(row)


def slug(row: str) -> str:
    """The name of a row without blanks."""
    return row.replace(" ", "-")


def open_run(job: Job, processes: int = 1) -> RunFolder:
    """The run of one row and seed; made if it is not there."""
    folder = folder_of(Path(job.root), job.row, job.seed)
    config = settings(job.name, job.row, job.seed, processes, job.changes)
    return RunFolder.open(folder, config)


def run_row(job: Job) -> Path:
    """All stages but the report of one run; what is done is skipped."""
    run = open_run(job)
    if job.row != OURS:
        share_cache(folder_of(Path(job.root), OURS, job.seed), run.path)
    for stage in (discover, train, sample, evaluate):
        stage(run)
    return run.path


def share_cache(source: Path, target: Path) -> None:
    """Give a run the latents, scores and features of another of the same seed.

    Linked, not copied, where the disk can do that. The cache's folder names say what its contents
    depend on, so a wrong one is not read.
    """
    for path in (source / "cache").rglob("[!.]*.safetensors"):
        own = target / path.relative_to(source)
        own.parent.mkdir(parents=True, exist_ok=True)
        if own.exists():
            continue
        try:
            os.link(path, own)
        except OSError:
            write_with(own, partial(shutil.copyfile, path))


@contextmanager
def timed(path: Path) -> Iterator[Callable[[], None]]:
    """Add the seconds in here to ``wall_seconds`` of ``path``, also when it ends early.

    Gives a function that does so in between, for processes that are killed.
    """
    before = read_json(path)["wall_seconds"] if path.is_file() else 0.0
    begun = time.monotonic()

    def keep() -> None:
        write_json(path, {"wall_seconds": round(before + time.monotonic() - begun, 1)})

    try:
        yield keep
    finally:
        keep()
