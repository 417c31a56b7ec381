"""`invdiff data check`: what is wrong with a source of pictures, told and written down."""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invdiff.errors import DataError, Interrupted

if TYPE_CHECKING:
    from invdiff.data.audit import Audit, AuditFinding

WORDS = "decode every picture and list what is wrong"
MORE = (
    "Near-duplicates and tiny pictures are told and not left out, unless --near-duplicates or "
    "--min-side says so. Exit code 1 if there is anything to leave out."
)
SHOWN = 5
NEAR = "near-duplicate"
TINY = 32


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a folder of pictures, a saved Hugging Face data set, .tar, .parquet or .npz files, "
        "or a built-in set",
    )
    parser.add_argument("--prompt-column", metavar="NAME", default="", help="column with captions")
    parser.add_argument(
        "--min-side",
        type=int,
        metavar="N",
        help="pictures whose shorter side has fewer pixels are to be left out; without it those "
        "below 32 are told as tiny",
    )
    parser.add_argument(
        "--quarantine",
        type=Path,
        metavar="FILE",
        help="write the list of pictures to leave out, .csv or .parquet, for data.quarantine",
    )
    parser.add_argument(
        "--near-duplicates", action="store_true", help="near-duplicates are to be left out, too"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def check(asked: argparse.Namespace) -> None:
    """Check a source and say what was found. DataError if there is anything to leave out."""
    from invdiff.data.audit import audit
    from invdiff.data.checking import QUARANTINE_SUFFIXES

    place: Path | None = asked.quarantine
    if place is not None and place.suffix.lower() not in QUARANTINE_SUFFIXES:
        raise DataError(f"--quarantine {place} must end in {' or '.join(QUARANTINE_SUFFIXES)}")
    try:
        found = audit(asked.path, asked.prompt_column, asked.min_side or TINY)
    except KeyboardInterrupt:
        again = "interrupted; nothing was written, the same command begins again"
        raise Interrupted(again) from None
    told = {NEAR: not asked.near_duplicates, "tiny": asked.min_side is None}
    bad = [f for f in found.findings if not told.get(f.kind)]
    if place is not None:
        write_quarantine(place, bad)
    as_it_is = json.dumps(as_json(asked.path, found), indent=1, ensure_ascii=False)
    print(as_it_is if asked.json else as_text(asked.path, found), flush=True)
    if bad:
        count = len({finding.name for finding in bad})
        what = f"{count} of {found.pictures} pictures should be left out or mended"
        how = f"--data.quarantine {place}" if place else "--quarantine FILE writes the list"
        raise DataError(f"{what}; {'a run leaves them out with ' if place else ''}{how}")


def write_quarantine(path: Path, findings: Sequence["AuditFinding"]) -> None:
    """Write the list that `data.quarantine` takes, as CSV or parquet."""
    from invdiff.data.checking import QUARANTINE_COLUMNS
    from invdiff.engine.storage.files import write_parquet, write_with

    rows = [[getattr(finding, name) for name in QUARANTINE_COLUMNS] for finding in findings]
    if path.suffix.lower() == ".parquet":
        write_parquet(
            path, {name: [row[at] for row in rows] for at, name in enumerate(QUARANTINE_COLUMNS)}
        )
        return

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([QUARANTINE_COLUMNS, *rows])

    write_with(path, write)


def as_json(path: str, found: "Audit") -> dict[str, object]:
    """Everything that was found, for another program."""
    return {
        "path": path,
        "pictures": found.pictures,
        "usable": found.usable(),
        "counts": found.counts(),
        "told": found.told,
        "findings": [vars(finding) for finding in found.findings],
    }


def as_text(path: str, found: "Audit") -> str:
    """A table of counts, then the first findings of each kind."""
    from invdiff.data.audit import UNUSABLE
    from invdiff.data.samples import plural

    lines = [f"{path}: {plural(found.pictures, 'picture')}, {found.usable()} can be used", ""]
    for kind, count in found.counts().items():
        what = "cannot be used" if kind in UNUSABLE else ""
        lines.append(f"  {kind:15}{count:>7}  {what}".rstrip())
    for kind, count in found.counts().items():
        if count:
            shown = [f for f in found.findings if f.kind == kind][:SHOWN]
            lines += ["", f"{kind}:", *(f"  {f.name}: {f.reason}" for f in shown)]
            lines += [f"  and {count - SHOWN} more"] if count > SHOWN else []
    return "\n".join(lines)
