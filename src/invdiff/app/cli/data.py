"""`invdiff data`: check pictures, build a set, train a classifier, prepare an archive."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invdiff.app.cli.parser import Asked
from invdiff.engine.storage.files import read_json, write_csv, write_parquet
from invdiff.errors import ConfigError, DataError, Interrupted
from invdiff.terminal import aligned, printable

if TYPE_CHECKING:
    from invdiff.data.audit import Audit, AuditFinding

SHOWN = 5
NEAR, TINY = "near-duplicate", 32
TOLD = {"animated", "one colour"}
"""Findings that leave nothing out."""


def check(asked: Asked) -> None:
    """Check a source and say what was found. DataError if there is anything to leave out."""
    from invdiff.data.audit import audit
    from invdiff.data.checking import QUARANTINE_SUFFIXES

    place: Path | None = asked.quarantine
    if place is not None and place.suffix.lower() not in QUARANTINE_SUFFIXES:
        raise ConfigError(f"--quarantine {place} must end in {' or '.join(QUARANTINE_SUFFIXES)}")
    try:
        found = audit(asked.path, asked.prompt_column, asked.min_side or TINY)
    except KeyboardInterrupt:
        again = "interrupted; nothing was written, the same command begins again"
        raise Interrupted(again) from None
    kept = {NEAR: not asked.near_duplicates, "tiny": asked.min_side is None}
    bad = [f for f in found.findings if f.kind not in TOLD and not kept.get(f.kind)]
    if place is not None:
        _write_quarantine(place, bad)
    if asked.json:
        told = {
            "path": asked.path,
            "pictures": found.pictures,
            "usable": found.usable(),
            "counts": found.counts(),
            "told": found.told,
            "findings": [vars(finding) for finding in found.findings],
        }
        print(json.dumps(told, indent=1), flush=True)
    else:
        print(_audit_text(asked.path, found), flush=True)
    if bad:
        count = len({finding.name for finding in bad})
        what = f"{count} of {found.pictures} pictures should be left out or mended"
        how = f"--data.quarantine {place}" if place else "--quarantine FILE writes the list"
        raise DataError(f"{what}; {'a run leaves them out with ' if place else ''}{how}")


def _write_quarantine(path: Path, findings: Sequence["AuditFinding"]) -> None:
    """Write the list that `data.quarantine` takes, as CSV or parquet."""
    from invdiff.data.checking import QUARANTINE_COLUMNS

    if path.suffix.lower() == ".csv":
        write_csv(path, QUARANTINE_COLUMNS, map(vars, findings))
        return
    columns = {name: [getattr(one, name) for one in findings] for name in QUARANTINE_COLUMNS}
    write_parquet(path, columns)


def _audit_text(path: str, found: "Audit") -> str:
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
            lines += ["", f"{kind}:", *(printable(f"  {f.name}: {f.reason}") for f in shown)]
            lines += [f"  and {count - SHOWN} more"] if count > SHOWN else []
    return "\n".join(lines)


def build(asked: Asked) -> None:
    """Make a built-in set; say how good its classifier is and what can be done now."""
    from invdiff.model.vision.attribute_classifier import AttributeClassifier
    from invdiff.studies.toy_models.sets import make

    folder = make(asked.name, asked.source, asked.out)
    claims = AttributeClassifier.load(folder / "classifier.safetensors").facts["attributes"]
    told = [f"{name} {claim['accuracy']:.4f}" for name, claim in claims.items()]
    held_out = next(iter(claims.values()))["held_out"]
    seconds = sum(read_json(folder / "base_recipe.json")["seconds"].values())
    print(f"base model: trained in {seconds / 60:.0f} minutes")
    print(f"classifier: {', '.join(told)} right on {held_out:,} pictures that it never saw")
    print(f"set: {folder}")
    print(f"run on it: invdiff run --preset {asked.name} --out runs/{asked.name}")


def classifier(asked: Asked) -> None:
    """Train one, and say how good it is. ConfigError for a file name that cannot be used."""
    from invdiff.engine.classifiers.learn import learn

    if asked.out.suffix != ".safetensors":
        raise ConfigError(f"--out {asked.out} must end in .safetensors")
    column = asked.label_column
    facts = learn(asked.source, column, asked.out, asked.backbone, asked.steps, asked.split_seed)
    print(_confusion(facts, column))
    print(f"use it: --evaluate.classifier {asked.out}")


def _confusion(facts: Mapping[str, Any], column: str) -> str:
    """Accuracy and the confusion matrix on the held-out pictures."""
    claim = facts["attributes"][column]
    left_out = ", ".join(f"{count} {why}" for why, count in facts["left_out"].items() if count)
    rows = [[f"true {column}", *(f"called {name}" for name in claim["classes"])]]
    for name, counts in zip(claim["classes"], claim["confusion"], strict=True):
        rows.append([name, *map(str, counts)])
    return (
        f"{facts['trained_on']:,} pictures to train on, {facts['validated_on']:,} to choose with"
        f"{f'; left out: {left_out}' if left_out else ''}\n"
        f"right on {claim['accuracy']:.1%} of {claim['held_out']:,} held-out pictures:\n"
        f"{aligned(rows)}"
    )


def prepare(asked: Asked) -> None:
    """Lay an official archive out, and say what there is now."""
    from invdiff.data.sets.official.archive import TRAIN
    from invdiff.studies.official_sets import prepare as prepare_archive

    out = prepare_archive(asked.name, asked.source, asked.out, asked.ratio, asked.ratio_seed)
    print(_splits(read_json(out / "preparation.json")))
    words = ["invdiff", "run", "--preset", asked.name, "--data.path", str(out / TRAIN)]
    print("train on it:", shlex.join([*words, "--out", f"runs/{asked.name}"]))


def _splits(report: Mapping[str, Any]) -> str:
    """The groups of each split, what was checked and what to know."""
    splits: dict[str, dict[str, int]] = report["splits"]
    rows = [["group", *splits]]
    for group in next(iter(splits.values())):
        rows.append([group, *(f"{counts[group]:,}" for counts in splits.values())])
    rows.append(["all", *(f"{sum(counts.values()):,}" for counts in splits.values())])
    checked = [f"checked: {what}" for what in report["checked"]]
    return "\n".join([aligned(rows), "", *checked, *(f"note: {what}" for what in report["notes"])])
