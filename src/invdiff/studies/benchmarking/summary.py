"""Means over the seeds of a benchmark, from the tidy table of :mod:`measured`.

A number that no seed has is NaN; one that some seeds have is the mean of those.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from invdiff.studies.benchmarking.measured import BASE
from invdiff.studies.benchmarking.page import labels, where
from invdiff.studies.benchmarking.suites import ORACLE, OURS

KEYS = ["set", "row", "scale", "prompt", "group", "metric"]
HEADLINES = {"fidelity": "fidelity", "fd": "frechet.balanced"} | {
    name: name for name in ("recall", "coverage")
}


def mean(values: Iterable[float]) -> float:
    """The mean of the numbers that are not NaN, exactly rounded; NaN without any."""
    known = [value for value in values if not pd.isna(value)]
    return fmean(known) if known else float("nan")


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each number, whatever the seed: the columns of ``KEYS`` and what is of it.

    ``value`` is the mean, ``low`` and ``high`` are the means of the seeds' own interval ends: what
    the pictures leave open, not how far the seeds are apart. That is ``lowest`` and ``highest``.
    ``total`` is the sum, and ``count`` how many seeds have the number.
    """
    return rows.groupby(KEYS, sort=False, dropna=False, as_index=False).agg(
        value=("value", mean),
        low=("low", mean),
        high=("high", mean),
        lowest=("value", "min"),
        highest=("value", "max"),
        total=("value", "sum"),
        count=("value", "count"),
    )


def mean_over_prompts(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """For each seed the means of ``metrics`` over prompts and groups, as tidy lines."""
    own = rows[rows["metric"].isin(metrics)].assign(prompt="", group="")
    grouped = own.groupby([*KEYS, "seed"], sort=False, dropna=False, as_index=False)
    return grouped.agg(value=("value", mean)).assign(low=float("nan"), high=float("nan"))


def number_of(summary: pd.DataFrame, row: str, metric: str, **where_else: Any) -> float:
    """The mean of one number over the seeds, and over prompts if it has them; NaN without any."""
    return mean(where(summary, row=row, metric=metric, **where_else)["value"])


def seeds_of(rows: pd.DataFrame) -> list[int]:
    """The seeds in order."""
    return sorted(rows["seed"].unique().tolist())


def scales_of(rows: pd.DataFrame) -> list[float]:
    """The guidance scales, lowest first."""
    return sorted(rows["scale"].dropna().unique().tolist())


def comparison(rows: pd.DataFrame) -> dict[str, Any]:
    """The record of ``comparison.json``, which the report shows beside the run's own figures."""
    summary, count = over_seeds(rows), len(seeds_of(rows))
    entries = []
    for scale in scales_of(rows):
        at_scale = where(summary, scale=scale)
        for row, name in labels(rows, ["row"], count, scale).items():
            bias = where(at_scale, row=row, metric="bias").reset_index().reindex([0]).iloc[0]
            entry = {"name": name, "scale": scale, "bias": bias[["value", "low", "high"]].to_dict()}
            entry["fidelity"] = number_of(at_scale, row, "fidelity")
            entry["frechet"] = number_of(at_scale, row, "frechet.balanced")
            entries.append(entry)
    note = (
        f"Means over {count} seeds; the intervals are the means of the seeds' own 95 % bootstrap "
        "intervals."
    )
    return {"rows": entries, "note": note if count > 1 else ""}


def headline(rows: pd.DataFrame) -> dict[str, float]:
    """The figures that the benchmark is about, each a mean over the seeds.

    Guidance scale 1, or 2.5 where the key ends in ``_cfg``. ``fd`` is the Fréchet distance to the
    balanced set; ``auc`` and ``balanced_accuracy`` are means over the prompts that have a rarest
    label; ``<prompt>_found`` is the share of the seeds in which groups were found.
    """
    summary = over_seeds(rows)
    arms = {"base": BASE, "guided": OURS} | ({"oracle": ORACLE} if ORACLE in {*rows.row} else {})
    found = {
        f"bias_{arm}{end}": number_of(summary, row, "bias", scale=scale)
        for end, scale in {"": 1.0, "_cfg": 2.5}.items()
        for arm, row in arms.items()
    }
    found |= {key: number_of(summary, OURS, key) for key in ("auc", "balanced_accuracy")}
    found |= {
        f"{key}_{arm}": number_of(summary, arms[arm], metric, scale=1.0)
        for key, metric in HEADLINES.items()
        for arm in ("base", "guided")
    }
    own = where(summary, row=OURS, metric="found")
    names = [f"{name}_found" for name in short_names(own["prompt"]).values()]
    found["strength"] = number_of(summary, OURS, "calibrated_strength")
    return found | dict(zip(names, own["value"], strict=True))


def short_names(prompts: Iterable[str]) -> dict[str, str]:
    """One word for each prompt: the last that not all of them have, ``plain`` without one."""
    words = {prompt: prompt.split() for prompt in prompts}
    common = set.intersection(*map(set, words.values())) if len(words) > 1 else set()
    short = {
        prompt: next((word for word in reversed(own) if word not in common), "plain")
        for prompt, own in words.items()
    }
    return short if len(set(short.values())) == len(short) else {p: p for p in short}
