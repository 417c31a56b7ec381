"""What the runs of a benchmark have measured, as one tidy table: a line for each number.

The columns are those of :data:`COLUMNS`. ``row`` is the row's name, "base" for the base model as
the row of the method drew it; ``scale`` the guidance scale, NaN where there is none; ``prompt``
and ``group`` are empty where a number is of all. ``metric`` is the number's path in an arm of
``metrics.json``, as in ``bias``, ``frechet.balanced``, ``bias.parity_value``; ``low`` and ``high``
are the ends of its interval, ``count`` the pictures that it counts. Numbers of discovery have no
scale: ``found`` (0 or 1), ``inferred_share`` (of the images in another group than the
over-represented one), ``balanced_accuracy`` and ``auc``. A number that is not defined is NaN.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from invdiff.engine.run.records import Discovery
from invdiff.engine.run.results import Results
from invdiff.engine.storage.files import read_json
from invdiff.studies.benchmarking.jobs import Job
from invdiff.studies.benchmarking.page import labels, where
from invdiff.studies.benchmarking.suites import OURS, ROWS

BASE = "base"
AGREEMENT = ("balanced_accuracy", "auc")
COLUMNS = (
    "set", "row", "seed", "scale", "prompt", "group", "metric", "value", "low", "high", "count",
)  # fmt: skip


class Measured(NamedTuple):
    """The tidy ``rows`` of some runs with the ``protocol`` of the first.

    ``suffix`` is what the row of the prompt suffix was drawn with.
    """

    rows: pd.DataFrame
    protocol: Mapping[str, Any]
    suffix: Mapping[str, Any] | None = None


def tidy(lines: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The table of ``lines``, which may leave out columns; the base model comes first."""
    table = pd.DataFrame(list(lines), columns=list(COLUMNS))
    words = ["set", "prompt", "group"]
    table[words] = table[words].astype(object).fillna("")
    numbers = dict.fromkeys(("scale", "value", "low", "high"), "float64")
    table = table.astype(numbers | {"count": "Int64"})
    return table.sort_values("row", key=lambda row: row != BASE, kind="stable", ignore_index=True)


def read_runs(jobs: Sequence[Job]) -> Measured:
    """What some finished runs have measured; RunError if one of their files is missing."""
    protocol = Results(jobs[0].folder).metrics.protocol
    suffixed = [job for job in jobs if ROWS[job.row].arm == BASE]
    suffix = None
    if suffixed:
        suffix = read_json(suffixed[-1].folder / "stages" / "sample.json")["prompt_suffix"]
    return Measured(tidy(line for job in jobs for line in _run_lines(job)), protocol, suffix)


def _run_lines(job: Job) -> Iterator[dict[str, Any]]:
    """Where there was nothing to train, the guided model is the base as it is."""
    results, own = Results(job.folder), ROWS[job.row].arm
    arms, skipped = results.metrics.arms, results.training.skipped
    known = {"set": job.name, "row": job.row, "seed": job.seed}
    yield known | {"metric": "calibrated_strength", "value": results.calibration.strength}
    agreement = results.metrics.groups_vs_labels or {}
    yield from (known | line for line in _discovery_lines(results.discovery, agreement))
    shown = {job.row: arms.get(BASE if skipped and BASE in arms else own, {})}
    if job.row == OURS:
        shown[BASE] = arms.get(BASE, {})
    for row, scales in shown.items():
        for scale in sorted(scales, key=float):
            place = known | {"row": row, "scale": float(scale)}
            yield from (place | line for line in _arm_lines(scales[scale]))


def _arm_lines(arm: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The numbers of one arm at one scale."""
    for prompt, shares in arm["shares"].items():
        for group, share in shares.items():
            entry = share | {"value": share["share"]}
            entry.pop("share")
            for line in _numbers(entry, "share"):
                yield line | {"prompt": prompt, "group": group}
    yield from _numbers({key: value for key, value in arm.items() if key != "shares"})


def _numbers(entry: Mapping[str, Any], path: str = "") -> Iterator[dict[str, Any]]:
    """A line for the value of ``entry`` with what stands beside it, and for all numbers below."""
    beside: tuple[str, ...] = ()
    if path and "value" in entry:
        beside = ("value", "low", "high", "count")
        yield {"metric": path, **{key: entry.get(key) for key in beside}}
    for key, value in entry.items():
        if key in beside:
            continue
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _numbers(value, name)
        elif value is None or isinstance(value, int | float):
            yield {"metric": name, "value": value}


def _discovery_lines(found: Discovery, agreement: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for prompt, entry in found.prompts.items():
        share = entry.groups[1].share if entry.groups else None
        if len(entry.groups) > 2:
            share = 1 - (entry.groups[0].share or 0.0)
        numbers = {"found": int(entry.found), "inferred_share": share}
        numbers |= {name: agreement.get(name, {}).get(prompt) for name in AGREEMENT}
        for metric, value in numbers.items():
            yield {"prompt": prompt, "metric": metric, "value": value}


KEYS = ["set", "row", "scale", "prompt", "group", "metric"]


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
        f"Means over {count} seeds; the intervals are the means of the seeds' own 95 % intervals."
    )
    return {"rows": entries, "note": note if count > 1 else ""}


def short_names(prompts: Iterable[str]) -> dict[str, str]:
    """One word for each prompt: the last that not all of them have, ``plain`` without one."""
    words = {prompt: prompt.split() for prompt in prompts}
    common = set.intersection(*map(set, words.values())) if len(words) > 1 else set()
    short = {
        prompt: next((word for word in reversed(own) if word not in common), "plain")
        for prompt, own in words.items()
    }
    return short if len(set(short.values())) == len(short) else {p: p for p in short}
