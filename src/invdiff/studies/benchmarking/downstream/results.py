"""The tables of classifiers that were trained with and without added pictures."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.core.uncertainty.intervals import wilson
from invdiff.engine.run.environment import environment
from invdiff.engine.storage.files import write_json, write_text
from invdiff.studies.benchmarking.averages import mean
from invdiff.studies.benchmarking.markdown import (
    LIBRARIES,
    interval,
    listed,
    number,
    over_seeds,
    table,
)
from invdiff.studies.benchmarking.suites import DOWNSTREAM

CONFIDENCE = 0.95
HEAD = ("trained on", "real", "synthetic", "worst group", "worst over the seeds", "mean of groups")

Result = Mapping[str, Any]


def write(out: Path, name: str, results: Sequence[Result]) -> Path:
    """Write ``table.md``, ``table.csv`` and ``summary.json`` into ``out``; returns the first."""
    versions = environment()["versions"]
    rows = [summary(arm, results) for arm in dict.fromkeys(one["arm"] for one in results)]
    write_json(out / "summary.json", {"name": name, "arms": rows, "versions": versions})
    write_text(out / "table.csv", as_csv(results))
    return write_text(out / "table.md", page(name, rows, results, versions))


def worst(result: Result) -> dict[str, Any]:
    """The group of the lowest accuracy; its interval allows for having been chosen (Bonferroni)."""
    groups = result["groups"]
    found = min(groups, key=lambda group: (group["value"], group["prompt"], group["group"]))
    count, total = np.array([found["count"]]), np.array([found["images"]])
    low, high = wilson(count, total, 1 - (1 - CONFIDENCE) / len(groups))
    return dict(found) | {"low": float(low[0]), "high": float(high[0])}


def summary(arm: str, results: Sequence[Result]) -> dict[str, Any]:
    """Means of one arm over its seeds, and which group was the worst in each."""
    own = [one for one in results if one["arm"] == arm]
    found = [worst(one) for one in own]
    return {
        "arm": arm,
        "seeds": [one["seed"] for one in own],
        "real": own[0]["real"],
        "synthetic": [one["synthetic"] for one in own],
        "worst_group": {key: mean(one[key] for one in found) for key in ("value", "low", "high")},
        "worst_by_seed": found,
        "mean_of_groups": mean(mean(group["value"] for group in one["groups"]) for one in own),
    }


def page(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    results: Sequence[Result],
    versions: Mapping[str, str | None],
) -> str:
    """The table, and what its figures are."""
    seeds = rows[0]["seeds"]
    sizes = sorted({group["images"] for one in results for group in one["groups"]})
    known = listed(f"{one} {versions[one]}" for one in LIBRARIES if versions.get(one))
    terms = (
        f"Accuracy of a small classifier of the prompt on the balanced pictures, which it has not "
        f"seen, by group of prompt and {results[0]['attribute']} ({_span(sizes)} pictures each); "
        f"{over_seeds(seeds)} The interval of the worst group allows for its having been chosen "
        "among all. *biased* is the training split; *biased and guided* has besides what "
        "`invdiff augment` draws to even out the inferred groups, *biased and base* as many "
        "pictures of the base model as it draws them. All take the same number of steps; no "
        "training reads a label of the attribute."
    )
    made = f"`invdiff benchmark run {name} --suite {DOWNSTREAM} --seeds {len(seeds)} --out DIR`"
    blocks = [table(HEAD, map(_row, rows)), terms, f"Made by {made}, with {known}."]
    return "\n\n".join(blocks) + "\n"


def _row(row: Mapping[str, Any]) -> list[str]:
    lowest = min(row["worst_by_seed"], key=lambda one: one["value"])
    return [
        row["arm"],
        f"{row['real']:,}",
        _span(sorted(set(row["synthetic"]))),
        interval(row["worst_group"], 3),
        f"{number(lowest['value'], 3)} ({lowest['prompt']}, {lowest['group']})",
        number(row["mean_of_groups"], 3),
    ]


def _span(values: Sequence[int]) -> str:
    low, high = values[0], values[-1]
    return f"{low:,}" if low == high else f"{low:,}..{high:,}"


def as_csv(results: Sequence[Result]) -> str:
    """One line for each arm, seed and group."""
    text = io.StringIO()
    columns = ["arm", "seed", "prompt", "group", "count", "images", "value", "low", "high"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for one in results:
        writer.writerows(
            {"arm": one["arm"], "seed": one["seed"]} | group for group in one["groups"]
        )
    return text.getvalue()
