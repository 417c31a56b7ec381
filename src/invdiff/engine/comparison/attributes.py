"""Figures of attributes: shares, Bias and its reduction, mixes, crossed groups, named classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.core.measurement import parity
from invdiff.core.measurement.explicit_prompts import keeping, named_prompts, showing
from invdiff.core.uncertainty import classifier_error, intervals
from invdiff.engine.comparison.pairs import PAIRED, Sides
from invdiff.engine.comparison.record import Drawing, Figure, of_interval
from invdiff.errors import InvDiffError

Counts = NDArray[np.int64]
ALL = "all pictures"


@dataclass(frozen=True)
class Attribute:
    """An attribute of both sets: one label of each picture, and who made them.

    ``claims`` has the classifier's ``accuracy``, ``held_out`` and ``confusion``; empty for labels
    that came with the pictures, and where nobody measured it (``is_estimated``). ``is_prompt``:
    its classes are prompts, nothing to balance.
    """

    name: str
    classes: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    made_by: str
    claims: Mapping[str, Any]
    is_prompt: bool = False
    is_estimated: bool = False

    def claimed(self) -> dict[str, Any]:
        """Who made the labels and how often they are wrong."""
        return {"classes": list(self.classes), "made_by": self.made_by} | dict(self.claims)


def measured(
    attribute: Attribute,
    sides: Sides,
    drawing: Drawing,
    target: NDArray[np.float64] | None = None,
) -> Iterator[Figure]:
    """Shares, Bias, its reduction, worst prompt, distance from ``target``, and named classes.

    Prompts that name a class of the attribute are left out of Bias: they must keep it.
    """
    every = sorted({*sides.first, *sides.second})
    named = named_prompts(every, attribute.classes)
    free = [prompt for prompt in every if prompt not in named]
    prompts = {"a": sides.first, "b": sides.second}
    tables = {
        of: parity.table(prompts[of], attribute.labels[of], every, attribute.classes)
        for of in ("a", "b")
    }
    rows = [every.index(prompt) for prompt in free]
    for of, counts in tables.items():
        yield from _shares(attribute, of, counts, every, drawing)
        if counts[rows].any():
            yield from _bias(attribute, of, counts[rows], free, drawing, target)
    if rows:
        before, after = (counts[rows] for counts in tables.values())
        yield _reduction(attribute, sides, before, after, free, drawing)
    if named:
        yield from _explicit(attribute, sides, named)


def crossed_attribute(attributes: Sequence[Attribute]) -> Attribute:
    """Intersectional groups: every combination of classes, those that never occur included."""
    combinations = zip(*product(*(one.classes for one in attributes)), strict=True)
    labels = {
        of: tuple(parity.crossed(*(one.labels[of] for one in attributes))) for of in ("a", "b")
    }
    return Attribute(
        " x ".join(one.name for one in attributes),
        tuple(parity.crossed(*combinations)),
        labels,
        ", ".join(dict.fromkeys(one.made_by for one in attributes)),
        {},
    )


def prompt_fidelity(attribute: Attribute, sides: Sides) -> Iterator[Figure]:
    """Share of the pictures in which the classifier sees their own prompt, where it knows it."""
    for of, prompts in (("a", sides.first), ("b", sides.second)):
        known = [
            (prompt, label)
            for prompt, label in zip(prompts, attribute.labels[of], strict=True)
            if prompt in attribute.classes
        ]
        if known:
            right = sum(prompt == label for prompt, label in known)
            yield _share("prompt_fidelity", of, right, len(known), {})


def _shares(
    attribute: Attribute, of: str, counts: Counts, prompts: Sequence[str], drawing: Drawing
) -> Iterator[Figure]:
    corrected = _undone(attribute, counts, drawing)
    for row, prompt in enumerate(prompts):
        total = int(counts[row].sum())
        for column, klass in enumerate(attribute.classes):
            where = {"attribute": attribute.name, "prompt": prompt or ALL, "class": klass}
            more = {
                f"error_corrected{end}": None if corrected is None else values[row, column]
                for end, values in zip(("", "_low", "_high"), corrected or (0, 0, 0), strict=True)
            }
            yield _share("share", of, int(counts[row, column]), total, where, more)


def _share(
    name: str,
    of: str,
    count: int,
    total: int,
    where: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> Figure:
    low, high = intervals.wilson(np.array([count]), np.array([total]))
    value = count / total if total else np.nan
    beside = {"count": count} | dict(more or {})
    return Figure(name, of, value, total, low=low[0], high=high[0], where=where, more=beside)


def _undone(attribute: Attribute, counts: Counts, drawing: Drawing) -> tuple[Any, Any, Any] | None:
    """Shares without the classifier's errors and the ends of their intervals, where it may."""
    if "confusion" not in attribute.claims:
        return None
    confusion = np.asarray(attribute.claims["confusion"])
    try:
        share = classifier_error.corrected_shares(parity.shares(counts), confusion)
        ends = classifier_error.share_intervals(counts, confusion, drawing.resamples, drawing.seed)
    except InvDiffError:
        return None
    return share, *ends


def _bias(
    attribute: Attribute,
    of: str,
    counts: Counts,
    prompts: Sequence[str],
    drawing: Drawing,
    target: NDArray[np.float64] | None,
) -> Iterator[Figure]:
    where = {"attribute": attribute.name}
    settings = drawing.resamples, drawing.seed, drawing.confidence
    images, classes = int(counts.sum()), counts.shape[1]
    found = intervals.bias_interval(counts, *settings)
    far = intervals.over_prompts(counts, parity.imbalance(classes), drawing.confidence)
    if far.low == far.high:  # prompts that are all at 0 or 1 tell nothing of their spread
        far = intervals.Interval(found.value, np.nan, np.nan)
    more = {
        "normalised": found.value / parity.largest_bias(classes),
        "corrected": intervals.corrected(counts, parity.imbalance(classes)),
        "parity_value": parity.parity_value(counts.sum(1), classes),
        "prompts": int((counts.sum(1) > 0).sum()),
    } | _error_corrected(attribute, counts, drawing)
    yield Figure(
        "bias", of, found.value, images, low=found.low, high=found.high,
        prompts=(far.low, far.high), where=where, more=more,
    )  # fmt: skip
    yield _worst(attribute, of, counts, prompts, drawing)
    if target is not None and len(target) == classes:
        off = intervals.interval(counts, parity.off_target(target), *settings)
        mix = dict(zip(attribute.classes, target.tolist(), strict=True))
        yield of_interval(
            off, name="off_target", of=of, images=images, where=where, more={"target": mix}
        )


def _error_corrected(attribute: Attribute, counts: Counts, drawing: Drawing) -> dict[str, Any]:
    if "confusion" not in attribute.claims:
        return {}
    names = ("error_corrected", "error_corrected_low", "error_corrected_high")
    confusion = np.asarray(attribute.claims["confusion"])
    try:
        found = classifier_error.corrected_bias_interval(
            counts, confusion, drawing.resamples, drawing.seed, drawing.confidence
        )
    except InvDiffError:
        return dict.fromkeys(names)
    return dict(zip(names, (found.value, found.low, found.high), strict=True))


def _worst(
    attribute: Attribute, of: str, counts: Counts, prompts: Sequence[str], drawing: Drawing
) -> Figure:
    """The prompt of the largest Bias; its interval allows for its having been chosen."""
    seen = np.flatnonzero(counts.sum(1))
    row = seen[parity.prompt_bias(counts[seen]).argmax()]
    confidence = 1 - (1 - drawing.confidence) / len(seen)
    found = intervals.bias_interval(
        counts[row : row + 1], drawing.resamples, drawing.seed, confidence
    )
    where = {"attribute": attribute.name, "prompt": prompts[row] or ALL}
    return of_interval(
        found, name="worst_prompt", of=of, images=int(counts[row].sum()), where=where
    )


def _reduction(
    attribute: Attribute,
    sides: Sides,
    before: Counts,
    after: Counts,
    prompts: Sequence[str],
    drawing: Drawing,
) -> Figure:
    """Bias of the first set less that of the second; pairs where seeds pair."""
    settings = drawing.resamples, drawing.seed, drawing.confidence
    if sides.order is None:
        found = intervals.bias_difference(before, after, *settings)
        images, note = int(before.sum() + after.sum()), ""
    else:
        second = np.array(attribute.labels["b"])[sides.order].tolist()
        rows = zip(sides.first, attribute.labels["a"], second, strict=True)
        pairs = [row for row in rows if row[0] in prompts]
        of, one, other = ([row[at] for row in pairs] for at in range(3))
        joint = parity.joint_table(of, one, other, prompts, attribute.classes)
        found = intervals.bias_reduction(joint, *settings)
        images, note = len(pairs), PAIRED
    return of_interval(
        found, name="bias", of="a - b", images=images, note=note,
        where={"attribute": attribute.name},
    )  # fmt: skip


def _explicit(attribute: Attribute, sides: Sides, named: Mapping[str, str]) -> Iterator[Figure]:
    """Of the pictures whose prompt names a class, the share that is estimated to show it.

    Of pairs by seed also the share of the first ones that show it of which the second does too.
    """
    where = {"attribute": attribute.name}
    for of, prompts in (("a", sides.first), ("b", sides.second)):
        right, total = showing(prompts, attribute.labels[of], named)
        yield _share("explicit_fidelity", of, right, total, where)
    if sides.order is not None:
        second = np.array(attribute.labels["b"])[sides.order].tolist()
        kept, shown = keeping(sides.first, attribute.labels["a"], second, named)
        yield _share("explicit_kept", "b", kept, shown, where)
