"""`invdiff benchmark run`: the method beside its alternatives on a built-in set."""

import argparse
from pathlib import Path
from typing import Any

WORDS = "run a named benchmark"


def arguments(parser: argparse.ArgumentParser, count: Any) -> None:
    """The options of the verb; ``count`` reads whole numbers."""
    add = parser.add_argument
    add("name", metavar="NAME", help="name of a built-in set, as in faces")
    add(
        "--suite",
        default="controls",
        metavar="NAME",
        help="controls (what must and must not do anything, the default), baselines (other ways "
        "to balance a model) or augment (classifiers trained on what `invdiff augment` makes); "
        "they can share a folder",
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
    from invdiff.engine.suites import DOWNSTREAM

    table = _downstream(asked) if asked.suite == DOWNSTREAM else _rows(asked)
    print(f"table: {table}")


def _downstream(asked: argparse.Namespace) -> Path:
    from invdiff.engine.augment.downstream import benchmark

    table = benchmark(asked.name, asked.seeds, asked.out)
    print(table.read_text(encoding="utf-8"))
    return table


def _rows(asked: argparse.Namespace) -> Path:
    from invdiff.app.api import Run
    from invdiff.engine.benchmark import benchmark, folder_of
    from invdiff.engine.files import write_text
    from invdiff.engine.suites import OURS

    table = benchmark(asked.name, asked.seeds, asked.out, asked.suite)
    reports = [Run(folder_of(asked.out, OURS, seed)).redo("report") for seed in range(asked.seeds)]
    report = write_text(table.parent / "report.html", reports[0].read_text(encoding="utf-8"))
    print(table.read_text(encoding="utf-8"))
    print(f"report: {report}")
    return table
