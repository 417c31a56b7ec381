"""`invdiff benchmark run`: the method beside its alternatives on a built-in set, or on all."""

import argparse
from pathlib import Path
from typing import Any

from invdiff.errors import ConfigError

WORDS = "run a named benchmark"
MORE = "With --suite ablation or method, settings are those of all rows, as in --train.steps 400. "


def arguments(parser: argparse.ArgumentParser, count: Any) -> None:
    """The options of the verb; ``count`` reads whole numbers."""
    add = parser.add_argument
    add(
        "names",
        metavar="NAME",
        nargs="*",
        help="name of a built-in set, as in faces; --suite method takes several, or none for all",
    )
    add(
        "--suite",
        default="controls",
        metavar="NAME",
        help="controls (what must and must not do anything, the default), baselines (other ways "
        "to balance a model), ablation (the method with one setting changed) or augment "
        "(classifiers trained on what `invdiff augment` makes), which can share a folder; or "
        "method (every estimator, and what balancing does at three guidance scales, on every set)",
    )
    add(
        "--part",
        metavar="NAME",
        help="with --suite method, one table alone: found (which estimator finds the groups) or "
        "balanced (what they do)",
    )
    add(
        "--rows",
        metavar="ROW",
        nargs="+",
        default=[],
        help="with --suite ablation, only these rows and the method's own, as in rank-4 lambda-0",
    )
    add("--seeds", type=count, default=3, metavar="N", help="training seeds (3)")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the tables and runs; made if it is not there",
    )


def benchmark(asked: argparse.Namespace) -> None:
    """Do it, and show the table."""
    from invdiff.studies.benchmarking import require_extra
    from invdiff.studies.benchmarking.suites import ABLATION, DOWNSTREAM, METHOD

    require_extra()
    if asked.suite != METHOD and asked.part:
        raise ConfigError(f"--part belongs to --suite {METHOD}")
    if asked.suite != ABLATION and asked.rows:
        raise ConfigError(f"--rows belongs to --suite {ABLATION}")
    if asked.suite not in (ABLATION, METHOD) and asked.overrides:
        raise ConfigError(f"settings belong to --suite {ABLATION} or {METHOD}")
    others = {METHOD: _method, DOWNSTREAM: _downstream}
    print(f"table: {others.get(asked.suite, _rows)(asked)}")


def _method(asked: argparse.Namespace) -> Path:
    from invdiff.studies.benchmarking.method.suite import benchmark_method

    table = benchmark_method(asked.names, asked.seeds, asked.out, asked.part, asked.overrides)
    print(table.read_text(encoding="utf-8"))
    return table


def _downstream(asked: argparse.Namespace) -> Path:
    from invdiff.studies.benchmarking.downstream.study import benchmark_downstream

    table = benchmark_downstream(_one_name(asked), asked.seeds, asked.out)
    print(table.read_text(encoding="utf-8"))
    return table


def _rows(asked: argparse.Namespace) -> Path:
    from invdiff.app.api import Run
    from invdiff.engine.storage.files import write_text
    from invdiff.studies.benchmarking.jobs import Job
    from invdiff.studies.benchmarking.rows import benchmark_rows
    from invdiff.studies.benchmarking.suites import OURS

    name = _one_name(asked)
    table = benchmark_rows(name, asked.seeds, asked.out, asked.suite, asked.rows, asked.overrides)
    runs = [Job(str(asked.out), name, OURS, seed).folder for seed in range(asked.seeds)]
    reports = [Run(run).redo("report") for run in runs]
    report = write_text(table.parent / "report.html", reports[0].read_text(encoding="utf-8"))
    print(table.read_text(encoding="utf-8"))
    print(f"report: {report}")
    return table


def _one_name(asked: argparse.Namespace) -> str:
    """The set of a suite that is about one; ConfigError if another number of them was named."""
    if len(asked.names) != 1:
        told = f"but got {len(asked.names)}" if asked.names else "as in `benchmark run faces`"
        raise ConfigError(f"--suite {asked.suite} takes the name of one built-in set, {told}")
    name: str = asked.names[0]
    return name
