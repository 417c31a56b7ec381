"""The runs of a benchmark: one for each row and seed, resumable, several at a time.

Suites share the runs, and the runs of one seed share what discovery has computed.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from invdiff.engine.base_model.loading import device_of
from invdiff.engine.distributed.pool import automatic, run_shards
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.settings.method import DiscoverSection
from invdiff.engine.settings.schema import Config
from invdiff.engine.storage.files import read_json, write_json, write_with
from invdiff.engine.workflow import do_stage
from invdiff.errors import ConfigError
from invdiff.studies import comparison as compared
from invdiff.studies.benchmarking.suites import OURS, ROWS, SUFFIX

SCALES = (1.0, 2.5, 5.0)
DRAWN = (f"sample.guidance_scales={list(SCALES)}",)
OWN = ("seed", "processes", "train.processes")
"""Settings that :func:`row_settings` decides."""
ASKED = ", diverse"
"""What the row with a suffix adds to a prompt: the built-in models read 16 tokens."""
USERS = ("auto", "labels")
"""Estimators that a user can name too."""
DEFAULT: str = DiscoverSection().estimator

compared.register()

Work = TypeVar("Work")


@dataclass(frozen=True)
class Job:
    """One row and seed of a benchmark; ``changes`` are settings of all its rows.

    With an ``estimator`` it is no whole run: discovery alone, with that one.
    """

    root: str
    name: str
    row: str
    seed: int
    changes: tuple[str, ...] = ()
    estimator: str = ""

    @property
    def folder(self) -> Path:
        """The run folder."""
        place = Path(self.root) / f"seed-{self.seed}"
        return place / "found" / self.estimator if self.estimator else place / row_slug(self.row)

    @property
    def last_stage(self) -> str:
        """The stage that it ends with."""
        return "discover" if self.estimator else "evaluate"

    def config(self, processes: int = 1) -> Config:
        """The settings of the run."""
        own = []
        if self.estimator in USERS:
            own = ["study.estimator=''", f"discover.estimator='{self.estimator}'"]
        elif self.estimator:
            own = [f"study.estimator='{self.estimator}'"]
        return row_settings(self.name, self.row, self.seed, processes, [*self.changes, *own])

    def open(self, processes: int = 1) -> RunFolder:
        """The run; made if it is not there. RunError if it has other settings."""
        return RunFolder.open(self.folder, self.config(processes))

    def is_done(self, same: bool = False) -> bool:
        """Whether it is, and with the ``same`` settings if that is asked; makes nothing."""
        if not RunFolder.is_run(self.folder):
            return False
        run = RunFolder.read(self.folder)
        return run.done(self.last_stage) and (not same or run.config == self.config())

    def changed_settings(self) -> list[str]:
        """The settings of a run that is there which are not its row's own, as ``key=value``."""
        before = configuration.flatten(replace(self, changes=()).config())
        after = configuration.flatten(RunFolder.read(self.folder).config)
        different = [key for key in after if key not in OWN and after[key] != before[key]]
        return [f"{key}={json.dumps(after[key])}" for key in different]

    def cache_source(self) -> Path:
        """The run whose cache it takes.

        The row of the method and the discovery with the default estimator take each other's, and
        the others what these have computed.
        """
        if self.estimator:
            first = "" if self.estimator == DEFAULT else DEFAULT
        else:
            first = DEFAULT if self.row == OURS else ""
        return replace(self, row=OURS, estimator=first).folder


def require_benchmark(name: str, seeds: int) -> None:
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


def do_missing(jobs: Sequence[Job], clock: Path, title: str) -> None:
    """Do what is missing of ``jobs``; the time goes to the file ``clock``."""
    if any(not job.open().done(job.last_stage) for job in jobs):
        with timed(clock) as keep_time:
            do_jobs(jobs, keep_time, title)


def do_jobs(jobs: Sequence[Job], after_each: Callable[[], None], title: str) -> None:
    """Several at a time, under one bar.

    The discovery that the others take first, with all processes on one seed.
    """
    for job in jobs:
        first = job.estimator == DEFAULT if job.estimator else job.row == OURS
        if first and not job.open().done("discover"):
            print(f"{job.name}: discovery with seed {job.seed}", flush=True)
            run = job.open(processes=0)
            share_cache(job.cache_source(), run.path)
            do_stage(run, "discover")
            after_each()
    left = [job for job in jobs if not job.open().done(job.last_stage)]
    beside_each_other(do_job, left, len(jobs) - len(left), after_each, title, "run")


def do_job(job: Job) -> Path:
    """All stages but the report of one run; what is done is skipped."""
    run = job.open()
    share_cache(job.cache_source(), run.path)
    for stage in STAGES[: STAGES.index(job.last_stage) + 1]:
        do_stage(run, stage)
    return run.path


def beside_each_other(
    work: Callable[[Work], Any],
    left: Sequence[Work],
    done: int,
    after_each: Callable[[], None],
    title: str,
    unit: str,
) -> None:
    """Do what is ``left``, several at a time, under one bar; ``done`` others were done before."""
    processes = automatic(device_of("auto"))
    results = run_shards(
        work, left, processes=processes, title=title, unit=unit, done=done, quiet=True
    )
    for _ in results:
        after_each()


def row_settings(
    name: str, row: str, seed: int, processes: int = 1, changes: Sequence[str] = ()
) -> Config:
    """The settings of one row and seed; rows run beside each other, so each trains alone."""
    own = [*DRAWN, *changes]
    own += [f"seed={seed}", f"processes={processes}", "train.processes=1"]
    if row == SUFFIX:
        own.append(f"sample.prompt_suffix={json.dumps(ASKED)}")
    own += ROWS[row].changes
    return configuration.preset(name, own)


def row_slug(row: str) -> str:
    """The name of a row without blanks."""
    return row.replace(" ", "-")


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
    before = wall_seconds(path) or 0.0
    begun = time.monotonic()

    def keep() -> None:
        write_json(path, {"wall_seconds": round(before + time.monotonic() - begun, 1)})

    try:
        yield keep
    finally:
        keep()


def wall_seconds(path: Path) -> float | None:
    """The seconds that :func:`timed` wrote to ``path``; None if all was there before."""
    seconds: float | None = read_json(path)["wall_seconds"] if path.is_file() else None
    return seconds
