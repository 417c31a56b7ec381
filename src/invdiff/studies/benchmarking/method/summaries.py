"""Means over the seeds with what stands beside them, and the same figures one by one.

They are of what was found and measured; nothing is measured here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from invdiff.core.uncertainty.intervals import wilson
from invdiff.studies.benchmarking.averages import Line, at, ends, figures, lines, mean
from invdiff.studies.benchmarking.method.found import CHANCE, NAMES, Found
from invdiff.studies.benchmarking.method.seed_agreement import pairs
from invdiff.studies.benchmarking.rows import SCALES
from invdiff.studies.benchmarking.suites import OURS

MEASURED = {"bias": ("bias",), "fidelity": ("fidelity",), "frechet": ("frechet", "balanced")}
"""Figure -> where it is in an arm of metrics.json."""


class Result(NamedTuple):
    """What is complete of a set that has so many ``labels``.

    ``balanced`` are runs as :func:`tables.read` gives them; ``changes`` are the
    settings of each part that are not the suite's own.
    """

    name: str
    labels: int
    found: tuple[Found, ...]
    balanced: tuple[Mapping[str, Any], ...]
    changes: Mapping[str, Sequence[str]] = MappingProxyType({})


def found_lines(result: Result) -> list[dict[str, Any]]:
    """One line for each estimator that has a seed."""
    by_name = {name: [one for one in result.found if one.estimator == name] for name in NAMES}
    return [_found(result, name, own) for name, own in by_name.items() if own]


def _found(result: Result, name: str, own: Sequence[Found]) -> dict[str, Any]:
    skewed = [one["found"] for one in _prompts(own) if one["skewed"]]
    even = [one["found"] for one in _prompts(own) if not one["skewed"]]
    worth = {key: spread(_over_prompts(one, key) for one in own) for key in CHANCE}
    if result.labels < 3:  # of two labels the other figures tell as much
        worth["adjusted_rand"] = spread([])
    alike = mean(value for *_, value in pairs({one.seed: one.groups for one in own}))
    return {
        "set": result.name,
        "estimator": name,
        "seeds": sorted(one.seed for one in own),
        "found": counted(skewed),
        "false_alarms": counted(even),
        **worth,
        "seed_agreement": alike,
    }


def _prompts(own: Iterable[Found]) -> Iterator[dict[str, Any]]:
    for one in own:
        yield from one.prompts.values()


def _over_prompts(one: Found, key: str) -> float | None:
    return mean(entry[key] for entry in one.prompts.values())


def spread(values: Iterable[float | None]) -> dict[str, float | None]:
    """The mean of the seeds as ``value``, the ``low``est and the ``high``est; None without any."""
    known = [value for value in values if value is not None]
    return {
        "value": mean(known),
        "low": min(known, default=None),
        "high": max(known, default=None),
    }


def counted(happened: Sequence[bool]) -> dict[str, Any]:
    """How often of how many, with the 95 % interval of the share (Wilson); NaN of none."""
    count, of = sum(happened), len(happened)
    low, high = wilson(np.array(count), np.array(of))
    return {"count": count, "of": of, "low": float(low), "high": float(high)}


def balanced_lines(result: Result) -> list[dict[str, Any]]:
    """One line for the base model and each row that has a seed, and each guidance scale."""
    known = lines(result.balanced, OURS) if result.balanced else []
    return [
        _balanced(result, line, scale)
        for line in known
        if any(line.arms)
        for scale in map(str, SCALES)
    ]


def _balanced(result: Result, line: Line, scale: str) -> dict[str, Any]:
    means, beside = figures(line, scale), ends(line, scale)
    return {
        "set": result.name,
        "row": line.name,
        "scale": float(scale),
        "seeds": [s for s, arm in zip(line.seeds, line.arms, strict=True) if arm.get(scale)],
        "strengths": means["strengths"],
        "bias": means["bias"] | {"parity_value": means["parity_value"]},
        "fidelity": {"value": means["fidelity"], **beside["fidelity"]},
        "frechet": {"value": means["frechet"], **beside["frechet"]},
    }


def found_figures(result: Result) -> Iterator[dict[str, Any]]:
    """Every figure of a discovery by itself; an agreement has two seeds, as in 0-1."""
    common = {"part": "found", "set": result.name}
    for one in result.found:
        known = common | {"name": one.estimator, "seed": one.seed}
        for prompt, entry in one.prompts.items():
            yield known | {"prompt": prompt, "figure": "found", "value": int(entry["found"])}
            for figure in CHANCE:
                if entry[figure] is not None:
                    yield known | {"prompt": prompt, "figure": figure, "value": entry[figure]}
    for name in NAMES:
        by_seed = {one.seed: one.groups for one in result.found if one.estimator == name}
        for first, second, prompt, value in pairs(by_seed):
            of = {"name": name, "seed": f"{first}-{second}", "prompt": prompt}
            yield common | of | {"figure": "seed_agreement", "value": value}


def balanced_figures(result: Result) -> Iterator[dict[str, Any]]:
    """Every figure of a run by itself, with the ends of its interval if it has one."""
    for line in lines(result.balanced, OURS) if result.balanced else []:
        known = {"part": "balanced", "set": result.name, "name": line.name}
        for seed, arm in zip(line.seeds, line.arms, strict=True):
            for scale in map(str, SCALES):
                for figure, path in MEASURED.items():
                    for entry in at([arm], scale, *path):
                        own = {key: entry.get(key) for key in ("value", "low", "high")}
                        place = {"seed": seed, "scale": float(scale), "figure": figure}
                        yield known | place | own
