"""Which estimator finds the groups: discovery alone, once for each estimator and seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from invdiff.data.samples import Samples
from invdiff.engine.discovery.discover import discover
from invdiff.engine.evaluation.label_agreement import compare_with_labels
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.settings.config import Config
from invdiff.engine.settings.discovery import DiscoverSection
from invdiff.engine.storage.files import read_json, read_parquet
from invdiff.studies.benchmarking import rows as rows
from invdiff.studies.benchmarking.method.seed_agreement import Groups, groups_of
from invdiff.studies.benchmarking.suites import OURS

DEFAULT: str = DiscoverSection().estimator
USERS = ("auto", "labels")
"""Estimators that a user can name too."""
NAMES = (
    DEFAULT,
    "contrast",
    "semantic",
    "cluster",
    "top_loss",
    "labels",
    "random",
    "reference",
    "none",
)
CHANCE = {"auc": 0.5, "balanced_accuracy": 0.5, "adjusted_rand": 0.0}
"""What groups that nobody inferred are worth."""


class Search(NamedTuple):
    """One discovery on the set ``name``, whose folder is ``root``.

    ``changes`` are settings of all of them.
    """

    root: str
    name: str
    estimator: str
    seed: int
    changes: tuple[str, ...] = ()


class Found(NamedTuple):
    """What one discovery found.

    ``prompts`` has for each prompt whether it is ``skewed``, whether groups were ``found``, and
    the figures of ``CHANCE``: None where the training split is even, chance where nothing was
    found.
    """

    estimator: str
    seed: int
    prompts: dict[str, dict[str, Any]]
    groups: Groups


def searches(name: str, seeds: int, place: Path, changes: Sequence[str] = ()) -> list[Search]:
    """All there are to do on a set, those of the default first."""
    root, own = str(place), tuple(changes)
    return [Search(root, name, one, seed, own) for one in NAMES for seed in range(seeds)]


def folder_of(place: Path, estimator: str, seed: int) -> Path:
    """The run folder of one discovery."""
    return place / f"seed-{seed}" / "found" / estimator


def done(search: Search) -> bool:
    """Whether it is; makes nothing."""
    folder = folder_of(Path(search.root), search.estimator, search.seed)
    return RunFolder.is_run(folder) and RunFolder.read(folder).done("discover")


def run(name: str, seeds: int, place: Path, changes: Sequence[str] = ()) -> None:
    """Do the discoveries that are missing; the time goes to ``found-time.json``.

    The default comes first, with all processes on one seed: the others share what it computed.
    """
    known = searches(name, seeds, place, changes)
    left = [one for one in known if not open_run(one).done("discover")]
    if not left:
        return
    with rows.timed(place / "found-time.json") as keep_time:
        for one in left:
            if one.estimator == DEFAULT:
                print(f"{name}: discovery with seed {one.seed}", flush=True)
                search(one, processes=0)
                keep_time()
        others = [one for one in left if one.estimator != DEFAULT]
        before = len(known) - len(others)
        rows.beside_each_other(search, others, before, keep_time, f"{name}: estimators", "one")


def settings(one: Search, processes: int = 1) -> Config:
    """Those of the default row of the benchmark, with another estimator."""
    own = [*one.changes, "study.estimator=''", f"discover.estimator='{one.estimator}'"]
    if one.estimator not in USERS:
        own[-2:] = [f"study.estimator='{one.estimator}'"]
    return rows.settings(one.name, OURS, one.seed, processes, own)


def changes(one: Search) -> list[str]:
    """The settings of a discovery that is there which are not the suite's own."""
    own = RunFolder.read(folder_of(Path(one.root), one.estimator, one.seed)).config
    return rows.changed(own, settings(one._replace(changes=())))


def open_run(one: Search, processes: int = 1) -> RunFolder:
    """Its run; made if it is not there."""
    folder = folder_of(Path(one.root), one.estimator, one.seed)
    return RunFolder.open(folder, settings(one, processes))


def search(one: Search, processes: int = 1) -> Path:
    """Infer the groups, with what the default, or else its row, has computed."""
    place, own = Path(one.root), open_run(one, processes)
    default = one.estimator == DEFAULT
    source = (
        rows.folder_of(place, OURS, one.seed) if default else folder_of(place, DEFAULT, one.seed)
    )
    rows.share_cache(source, own.path)
    discover(own)
    return own.path


def read(one: Search, data: Samples) -> Found:
    """What a discovery found, against the labels of the set."""
    own = RunFolder.read(folder_of(Path(one.root), one.estimator, one.seed))
    agreement = compare_with_labels(own, data)
    verdicts = read_json(own.path / "discovery.json")["prompts"]
    found = {prompt: bool(verdict["found"]) for prompt, verdict in verdicts.items()}
    prompts = {}
    for prompt, is_found in found.items():
        skewed = agreement["auc"][prompt] >= 0  # NaN where no label is rarer than the others
        worth = {key: agreement[key][prompt] if is_found else CHANCE[key] for key in CHANCE}
        figures = worth if skewed else dict.fromkeys(CHANCE)
        prompts[prompt] = {"skewed": bool(skewed), "found": is_found, **figures}
    groups = groups_of(read_parquet(own.path / "groups.parquet"), found)
    return Found(one.estimator, one.seed, prompts, groups)
