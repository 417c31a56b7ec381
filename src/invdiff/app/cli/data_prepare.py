"""`invdiff data prepare`: from a benchmark's official archive to folders that a run reads."""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORDS = "check a benchmark's official archive and lay it out for a run"
MORE = (
    "No picture is copied: the folders link to the archive. docs/evidence/benchmarks.md tells "
    "where the archives are from and what is checked."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("name", metavar="NAME", help="waterbirds, celeba or fairface")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder of the unpacked official archive",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="new folder for train, validation and test",
    )
    parser.add_argument(
        "--ratio",
        default="",
        metavar="A:B:...",
        help="ratio of the groups in the training split, as in 3:2:1:1:1:1:2:3; all pictures "
        "without it",
    )
    parser.add_argument(
        "--ratio-seed",
        type=int,
        default=0,
        metavar="N",
        help="seed that chooses the pictures a ratio keeps (0)",
    )


def prepare(asked: argparse.Namespace) -> None:
    """Do it, and say what there is now."""
    from invdiff.data.sets.official.archive import TRAIN
    from invdiff.engine.storage.files import read_json
    from invdiff.studies.official_sets import prepare as prepare_archive

    out = prepare_archive(asked.name, asked.source, asked.out, asked.ratio, asked.ratio_seed)
    print(table(read_json(out / "preparation.json")))
    words = ["invdiff", "run", "--preset", asked.name, "--data.path", str(out / TRAIN)]
    print("train on it:", shlex.join([*words, "--out", f"runs/{asked.name}"]))


def table(report: Mapping[str, Any]) -> str:
    """The groups of each split, what was checked and what to know."""
    splits: dict[str, dict[str, int]] = report["splits"]
    rows = [["group", *splits]]
    rows += [
        [group, *(f"{counts[group]:,}" for counts in splits.values())]
        for group in next(iter(splits.values()))
    ]
    rows.append(["all", *(f"{sum(counts.values()):,}" for counts in splits.values())])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    checked = [f"checked: {what}" for what in report["checked"]]
    return "\n".join([*lines, "", *checked, *(f"note: {what}" for what in report["notes"])])
