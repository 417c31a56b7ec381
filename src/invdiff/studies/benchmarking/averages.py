"""Means over the seeds of a benchmark, from what :func:`tables.read` gives.

A figure that no seed has is None; one that some seeds have is the mean of those, and the line says
how many they are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Run = Mapping[str, Any]
BASE = "base"


@dataclass(frozen=True)
class Line:
    """One line of the table: the same arm of the same row, by seed; an arm not drawn is empty."""

    name: str
    seeds: tuple[int, ...]
    arms: tuple[Mapping[str, Any], ...]


def lines(rows: Sequence[Run], ours: str) -> list[Line]:
    """The base model as the runs ``ours`` drew it, then each row's own arm."""
    names = {run["row"]: run["arm"] for run in rows}
    return [
        _line(rows, ours, "base", called=BASE),
        *(_line(rows, name, arm, called=name) for name, arm in names.items()),
    ]


def _line(rows: Sequence[Run], name: str, arm: str, called: str) -> Line:
    own = [run for run in rows if run["row"] == name]
    arms = tuple(run["arms"].get(arm, {}) for run in own)
    return Line(called, tuple(run["seed"] for run in own), arms)


def scales(rows: Sequence[Run]) -> list[str]:
    """The guidance scales of the runs, lowest first, as metrics.json names them."""
    named = {scale for run in rows for arm in run["arms"].values() for scale in arm}
    return sorted(named, key=float)


def seeds(rows: Sequence[Run]) -> list[int]:
    """The seeds of the runs in order."""
    return sorted({run["seed"] for run in rows})


def label(line: Line, scale: str, of: int) -> str:
    """The name of a line, and how many seeds it has if that is fewer than ``of``."""
    drawn = sum(bool(arm.get(scale)) for arm in line.arms)
    return line.name if drawn == of else f"{line.name} ({drawn} of {of} seeds)"


def figures(line: Line, scale: str) -> dict[str, Any]:
    """Means over the seeds at one scale.

    The interval of Bias is the mean of the seeds' own intervals: what the pictures leave open, not
    how far the seeds are apart. ``shares`` are those of the last class by name.
    """
    entries = [arm.get(scale, {}) for arm in line.arms]
    prompts = dict.fromkeys(prompt for entry in entries for prompt in entry.get("shares", {}))
    return {
        "seeds": sum(bool(entry) for entry in entries),
        "strengths": [entry.get("strength") for entry in entries],
        "bias": {key: _mean(entries, "bias", key) for key in ("value", "low", "high")},
        "parity_value": _mean(entries, "bias", "parity_value"),
        "shares": {prompt: _spread(entries, prompt) for prompt in prompts},
        "fidelity": _mean(entries, "fidelity", "value"),
        "frechet": _mean(entries, "frechet", "balanced", "value"),
        "recall": _mean(entries, "recall", "value"),
        "coverage": _mean(entries, "coverage", "value"),
    }


def ends(line: Line, scale: str) -> dict[str, dict[str, float | None]]:
    """What stands beside the means of :func:`figures`, Bias aside, as ``low`` and ``high``.

    Fidelity has the mean of the seeds' own intervals. The distance to the balanced set, recall and
    coverage have none of their own: theirs are the lowest and the highest seed.
    """
    entries = [arm.get(scale, {}) for arm in line.arms]
    own = {key: _mean(entries, "fidelity", key) for key in ("low", "high")}
    over = {
        "frechet": list(at(entries, "frechet", "balanced", "value")),
        "recall": list(at(entries, "recall", "value")),
        "coverage": list(at(entries, "coverage", "value")),
    }
    return {"fidelity": own} | {
        name: {"low": min(known, default=None), "high": max(known, default=None)}
        for name, known in over.items()
    }


def _spread(entries: Sequence[Mapping[str, Any]], prompt: str) -> dict[str, Any]:
    name = max(next(at(entries, "shares", prompt)))  # of two classes one is enough
    known = list(at(entries, "shares", prompt, name, "share"))
    ends = {"lowest": min(known, default=None), "highest": max(known, default=None)}
    return {"class": name, "mean": mean(known), **ends}


def discovered(rows: Sequence[Run], ours: str) -> dict[str, dict[str, Any]]:
    """For each prompt: in how many seeds groups were found, and means over the seeds."""
    entries = [run["discovery"] for run in rows if run["row"] == ours]
    keys = ("share", "balanced_accuracy", "auc")
    return {
        prompt: {"found": sum(entry[prompt]["found"] for entry in entries), "seeds": len(entries)}
        | {key: _mean(entries, prompt, key) for key in keys}
        for prompt in entries[0]
    }


def over_prompts(found: Mapping[str, Mapping[str, Any]], key: str) -> float | None:
    """The mean of ``key`` over the prompts that have it; even prompts have no rarest label."""
    return mean(entry[key] for entry in found.values())


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the numbers among ``values``; None without any."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _mean(entries: Sequence[Mapping[str, Any]], *path: str) -> float | None:
    return mean(at(entries, *path))


def at(entries: Iterable[Mapping[str, Any]], *path: str) -> Iterator[Any]:
    """What is at ``path`` in each entry that has something there."""
    for entry in entries:
        value: Any = entry
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            yield value


def short_names(prompts: Iterable[str]) -> dict[str, str]:
    """One word for each prompt: the last that not all of them have, ``plain`` without one."""
    words = {prompt: prompt.split() for prompt in prompts}
    common = set.intersection(*map(set, words.values())) if len(words) > 1 else set()
    short = {
        prompt: next((word for word in reversed(own) if word not in common), "plain")
        for prompt, own in words.items()
    }
    return short if len(set(short.values())) == len(short) else {p: p for p in short}
