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
from typing import Any, NamedTuple

import pandas as pd

from invdiff.engine.run.records import Discovery, GroupShare
from invdiff.engine.run.results import Results
from invdiff.engine.storage.files import read_json
from invdiff.studies.benchmarking.jobs import Job
from invdiff.studies.benchmarking.suites import OURS, ROWS

BASE = "base"
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


def _discovery_lines(
    discovery: Discovery, agreement: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    for prompt, entry in discovery.prompts.items():
        numbers = {
            "found": int(entry.found),
            "inferred_share": _inferred_share(entry.groups),
            "balanced_accuracy": agreement.get("balanced_accuracy", {}).get(prompt),
            "auc": agreement.get("auc", {}).get(prompt),
        }
        for metric, value in numbers.items():
            yield {"prompt": prompt, "metric": metric, "value": value}


def _inferred_share(groups: Sequence[GroupShare]) -> float | None:
    """The share of the images in another group than the over-represented one."""
    if len(groups) > 2:
        return 1 - (groups[0].share or 0.0)
    return groups[1].share if groups else None
