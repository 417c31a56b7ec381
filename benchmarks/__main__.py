"""``python -m benchmarks [--only NAME ...] [--quick] [--redo] [--out FOLDER]``."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import job, results, running, together, training
from invdiff.engine.distributed.pool import one_thread

PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "job": job.whole_job,
    "checkpoints": training.checkpoints,
    "discovery": running.discovery,
    "sampling": running.sampling,
    "processes": running.processes,
    "training-processes": together.training,
    "training": training.small,
    "real-shape": training.real_shape,
}


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not in the results yet, part by part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a smoke run: no figures")
    parser.add_argument("--redo", action="store_true", help="measure again what is there already")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args(arguments)
    one_thread()
    found = results.read(given.out / "results.json")
    for name in given.only or PARTS:
        known = found["parts"].get(name)
        if known and not given.redo and known["quick"] <= given.quick:
            print(f"{name}: there already (--redo measures it again)", flush=True)
            continue
        print(f"{name}: {PARTS[name].__doc__}", flush=True)
        measured = PARTS[name](given.quick)
        part = {"about": PARTS[name].__doc__, "quick": given.quick, "found": measured}
        results.keep(given.out, found, name, part)
    print(given.out / "RESULTS.md")


if __name__ == "__main__":
    main()
