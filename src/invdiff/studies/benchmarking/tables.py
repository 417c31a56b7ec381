"""The benchmark's files: ``table.md`` to read, ``table.csv`` to compute with, ``summary.json``.

They show what the runs have measured; nothing is measured here.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invdiff.engine.storage.files import read_json, write_json, write_text
from invdiff.studies.benchmarking.averages import (
    Line,
    discovered,
    figures,
    label,
    lines,
    mean,
    over_prompts,
    scales,
    seeds,
    short_names,
)
from invdiff.studies.benchmarking.markdown import page
from invdiff.studies.benchmarking.suites import ORACLE, ROWS

HEADLINES = {
    "fidelity": "fidelity",
    "fd": "frechet",
    "recall": "recall",
    "coverage": "coverage",
}
PLAIN, CFG = "1.0", "2.5"


def read(folder: Path, row: str, seed: int) -> dict[str, Any]:
    """What the tables need of one run folder; RunError if one of its files is missing.

    Where there was nothing to train, the guided model is the base as it is.
    """
    suffixed = ROWS[row].arm == "base"
    metrics = read_json(folder / "metrics.json")
    agreement = metrics["groups_vs_labels"] or {}
    prompts = read_json(folder / "discovery.json")["prompts"]
    arms = metrics["arms"]
    if read_json(folder / "training.json")["skipped"] and not suffixed and "base" in arms:
        arms = arms | {"guided": arms["base"]}
    return {
        "row": row,
        "arm": ROWS[row].arm,
        "seed": seed,
        "protocol": metrics["protocol"],
        "arms": arms,
        "prompt_suffix": read_json(folder / "stages" / "sample.json")["prompt_suffix"]
        if suffixed
        else None,
        "strength": read_json(folder / "adapter" / "calibration.json")["strength"],
        "discovery": {
            prompt: {
                "found": entry["found"],
                "share": _against(entry["groups"]),
                "balanced_accuracy": agreement.get("balanced_accuracy", {}).get(prompt),
                "auc": agreement.get("auc", {}).get(prompt),
            }
            for prompt, entry in prompts.items()
        },
    }


def _against(groups: Sequence[Mapping[str, Any]]) -> float | None:
    """The share of the images in another group than the one with the model."""
    if len(groups) > 2:
        return float(1 - groups[0]["share"])
    return groups[1]["share"] if groups else None


def comparison(rows: Sequence[Mapping[str, Any]], ours: str) -> dict[str, Any]:
    """The record of ``comparison.json``, which the report shows beside the run's own figures."""
    count = len(seeds(rows))
    entries = [
        {"name": label(line, scale, count), "scale": float(scale), **_some(line, scale)}
        for scale in scales(rows)
        for line in lines(rows, ours)
    ]
    note = (
        f"Means over {count} seeds; the intervals are the means of the seeds' own 95 % bootstrap "
        "intervals."
    )
    return {"rows": entries, "note": note if count > 1 else ""}


def _some(line: Line, scale: str) -> dict[str, Any]:
    found = figures(line, scale)
    return {key: found[key] for key in ("bias", "fidelity", "frechet")}


def headline(rows: Sequence[Mapping[str, Any]], ours: str) -> dict[str, float | None]:
    """The figures that the benchmark is about, each a mean over the seeds.

    Guidance scale 1, or 2.5 where the key ends in ``_cfg``. ``fd`` is the Frechet distance to the
    balanced set; ``auc`` and ``balanced_accuracy`` are means over the prompts that have a rarest
    label; ``<prompt>_found`` is the share of the seeds in which groups were found.
    """
    known = {line.name: line for line in lines(rows, ours)}
    found = discovered(rows, ours)
    arms = {"base": "base", "guided": ours, "oracle": ORACLE}
    at = {arm: figures(known[name], PLAIN) for arm, name in arms.items() if name in known}
    cfg = {arm: figures(known[name], CFG) for arm, name in arms.items() if name in known}
    bias = {f"bias_{arm}": measured["bias"]["value"] for arm, measured in at.items()}
    bias |= {f"bias_{arm}_cfg": measured["bias"]["value"] for arm, measured in cfg.items()}
    both = {
        f"{key}_{arm}": at[arm][name]
        for key, name in HEADLINES.items()
        for arm in ("base", "guided")
    }
    names = short_names(found)
    return {
        **bias,
        "auc": over_prompts(found, "auc"),
        "balanced_accuracy": over_prompts(found, "balanced_accuracy"),
        **both,
        "strength": mean(run["strength"] for run in rows if run["row"] == ours),
        **{f"{names[p]}_found": entry["found"] / entry["seeds"] for p, entry in found.items()},
    }


def write(out: Path, rows: Sequence[Mapping[str, Any]], ours: str) -> Path:
    """Write the three files into ``out``; returns ``table.md``."""
    seconds = wall_seconds(out)
    write_text(out / "table.csv", as_csv(rows, ours))
    write_json(out / "summary.json", summary(rows, ours) | {"wall_seconds": seconds})
    return write_text(out / "table.md", page(rows, ours, seconds))


def wall_seconds(out: Path) -> float | None:
    """Seconds that the rows took over all sessions; None if they were all there."""
    timed = out / "benchmark.json"
    return read_json(timed)["wall_seconds"] if timed.is_file() else None


def summary(rows: Sequence[Mapping[str, Any]], ours: str) -> dict[str, Any]:
    """What ``summary.json`` holds but for the time."""
    protocol = rows[0]["protocol"]
    return {
        "headline": headline(rows, ours),
        "rows": [
            {"name": line.name, "scale": float(scale), **figures(line, scale)}
            for line in lines(rows, ours)
            for scale in scales(rows)
        ],
        "discovery": discovered(rows, ours),
        "seeds": seeds(rows),
        "images_per_prompt": protocol["images_per_prompt"],
        "versions": protocol["versions"],
    }


def as_csv(rows: Sequence[Mapping[str, Any]], ours: str) -> str:
    """One line for each row, seed and scale, with every number of metrics.json under its path."""
    found = [
        {"row": line.name, "seed": seed, "scale": float(scale), **_flat(arm.get(scale, {}))}
        for line in lines(rows, ours)
        for seed, arm in zip(line.seeds, line.arms, strict=True)
        for scale in scales(rows)
    ]
    columns = dict.fromkeys(column for line in found for column in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def _flat(entry: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in entry.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else None
        flat |= {f"{prefix}{key}": value} if inner is None else inner
    return flat
