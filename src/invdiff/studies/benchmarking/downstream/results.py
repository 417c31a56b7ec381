"""The tables of classifiers that were trained with and without added pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from invdiff.core.uncertainty.intervals import wilson
from invdiff.engine.run.environment import environment
from invdiff.studies.benchmarking.measured import tidy
from invdiff.studies.benchmarking.page import (
    ENDS,
    INTERVAL,
    Column,
    labels,
    publish,
    shown_table,
    where,
)  # fmt: skip
from invdiff.studies.benchmarking.suites import DOWNSTREAM
from invdiff.studies.benchmarking.summary import mean_over_prompts, over_seeds, seeds_of

CONFIDENCE = 0.95
ACCURACY, WORST, MEAN = "accuracy", "worst_group", "mean_of_groups"
LOWEST = "lowest_worst_group"
COLUMNS = (
    Column("real", "real", ENDS, 0),
    Column("synthetic", "synthetic", ENDS, 0),
    Column("worst group", WORST, INTERVAL, 3),
    Column("worst over the seeds", LOWEST, "{value} ({prompt}, {group})", 3),
    Column("mean of groups", MEAN, digits=3),
)


def accuracies(name: str, results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The tidy table of what each arm and seed has measured; the ``row`` is the arm.

    ``accuracy`` of each group of prompt and attribute, where ``count`` is of its pictures; ``real``
    and ``synthetic`` pictures trained on.
    """
    return tidy(line for result in results for line in _lines(name, result))


def _lines(name: str, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    known = {"set": name, "row": result["arm"], "seed": result["seed"]}
    for metric in ("real", "synthetic"):
        yield known | {"metric": metric, "value": result[metric]}
    for group in result["groups"]:
        place = {key: group[key] for key in ("prompt", "group", "value", "low", "high")}
        yield known | place | {"metric": ACCURACY, "count": group["images"]}


def worst_groups(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each arm and seed the group of the lowest accuracy.

    Its interval allows for having been chosen (Bonferroni).
    """
    groups = where(rows, metric=ACCURACY).sort_values(["value", "prompt", "group"], kind="stable")
    by_seed = groups.groupby(["row", "seed"])
    worst = by_seed.head(1).sort_index()
    sizes = by_seed["value"].transform("size").loc[worst.index].to_numpy()
    total = worst["count"].to_numpy(np.int64)
    hits = np.rint(worst["value"].to_numpy() * total).astype(np.int64)
    parts = zip(hits, total, sizes, strict=True)
    ends = [wilson(np.array(k), np.array(n), 1 - (1 - CONFIDENCE) / of) for k, n, of in parts]
    low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
    return worst.assign(metric=WORST, low=low, high=high)


def write_accuracies(out: Path, name: str, results: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``table.md``, ``table.csv`` and ``summary.json`` into ``out``; returns the first."""
    rows = accuracies(name, results)
    worst, means = worst_groups(rows), mean_over_prompts(rows, [ACCURACY]).assign(metric=MEAN)
    summary = over_seeds(pd.concat([rows, worst.assign(prompt="", group=""), means]))
    lowest = worst.sort_values("value", kind="stable").drop_duplicates("row")
    shown = pd.concat([summary, lowest.assign(metric=LOWEST)])
    sizes = where(rows, metric=ACCURACY)["count"]
    seeds = seeds_of(rows)
    record = {
        "name": name,
        "suite": DOWNSTREAM,
        "seeds": seeds,
        "rows": summary.to_dict("records"),
        "versions": environment()["versions"],
    }
    context = {
        "arms": shown_table(shown, labels(rows, ["row"], len(seeds)).rename("trained on"), COLUMNS),
        "attribute": results[0]["attribute"],
        "pictures": "..".join(f"{size:,}" for size in sorted({sizes.min(), sizes.max()})),
    }
    every = pd.concat([rows, worst, tidy(means.to_dict("records"))], ignore_index=True)
    return publish(out, every, record, context, "downstream")
