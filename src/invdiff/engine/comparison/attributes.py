"""Figures of attributes: shares, Bias and its reduction, mixes, crossed groups, named classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.core.measurement import parity
from invdiff.core.measurement.explicit_prompts import keeping, named_prompts, showing
from invdiff.core.uncertainty import classifier_error, intervals
from invdiff.engine.comparison.figures import PAIRED, Drawing, Figure, Sides
from invdiff.engine.comparison.labels import Attribute
from invdiff.errors import InvDiffError

Counts = NDArray[np.int64]
ALL = "all pictures"


def crossed_attribute(attributes: Sequence[Attribute]) -> Attribute:
    """Intersectional groups: every combination of classes, those that never occur included."""
    combinations = zip(*product(*(one.classes for one in attributes)), strict=True)
    return Attribute(
        " x ".join(one.name for one in attributes),
        tuple(parity.crossed(*combinations)),
        {of: tuple(parity.crossed(*(one.labels[of] for one in attributes))) for of in ("a", "b")},
        ", ".join(dict.fromkeys(one.made_by for one in attributes)),
        {},
    )


@dataclass(frozen=True)
class AttributeFigures:
    """The figures of one attribute of both sets; ``target`` is the mix that is wanted, if any."""

    attribute: Attribute
    sides: Sides
    drawing: Drawing
    target: NDArray[np.float64] | None = None

    def every(self) -> Iterator[Figure]:
        """Shares, Bias, its reduction, worst prompt, distance from ``target``, and named classes.

        Prompts that name a class of the attribute are left out of Bias: they must keep it.
        """
        attribute, prompts = self.attribute, self.sides.prompts
        seen = sorted({*prompts["a"], *prompts["b"]})
        named = named_prompts(seen, attribute.classes)
        free = [prompt for prompt in seen if prompt not in named]
        rows = [seen.index(prompt) for prompt in free]
        tables = {
            of: parity.table(own, attribute.labels[of], seen, attribute.classes)
            for of, own in prompts.items()
        }
        for of, counts in tables.items():
            yield from self._shares(of, counts, seen)
            if counts[rows].any():
                yield from self._bias(of, counts[rows], free)
        if rows:
            yield self._difference(tables["a"][rows], tables["b"][rows], free)
        if named:
            yield from self._explicit(named)

    def _shares(self, of: str, counts: Counts, prompts: Sequence[str]) -> Iterator[Figure]:
        corrected = self._undone(counts)
        for row, prompt in enumerate(prompts):
            total = int(counts[row].sum())
            for column, klass in enumerate(self.attribute.classes):
                where = {"attribute": self.attribute.name, "prompt": prompt or ALL, "class": klass}
                more = {
                    f"error_corrected{end}": None if values is None else values[row, column]
                    for end, values in zip(("", "_low", "_high"), corrected, strict=True)
                }
                yield _share("share", of, (int(counts[row, column]), total), where, more)

    def _undone(self, counts: Counts) -> tuple[Any, Any, Any]:
        """Shares without the classifier's errors and the ends of their intervals, where it may."""
        confusion = self.attribute.confusion
        if confusion is None:
            return None, None, None
        try:
            share = classifier_error.corrected_shares(parity.shares(counts), confusion)
            ends = classifier_error.share_intervals(counts, confusion, *self.drawing)
        except InvDiffError:
            return None, None, None
        return share, *ends

    def _bias(self, of: str, counts: Counts, prompts: Sequence[str]) -> Iterator[Figure]:
        attribute, drawing, target = self.attribute, self.drawing, self.target
        where = {"attribute": attribute.name}
        images, classes = int(counts.sum()), counts.shape[1]
        found = intervals.bias_interval(counts, *drawing)
        far = intervals.over_prompts(counts, parity.imbalance(classes), drawing.confidence)
        # prompts that are all at 0 or 1 tell nothing of their spread
        ends = (np.nan, np.nan) if far.low == far.high else (far.low, far.high)
        more = {
            "normalised": found.value / parity.largest_bias(classes),
            "corrected": intervals.corrected(counts, parity.imbalance(classes)),
            "parity_value": parity.parity_value(counts.sum(1), classes),
            "prompts": int((counts.sum(1) > 0).sum()),
        } | self._error_corrected(counts)
        about: dict[str, Any] = {"of": of, "images": images, "where": where}
        yield Figure("bias", **asdict(found), prompts=ends, more=more, **about)
        yield self._worst(of, counts, prompts)
        if target is not None and len(target) == classes:
            off = intervals.interval(counts, parity.off_target(target), *drawing)
            mix = dict(zip(attribute.classes, target.tolist(), strict=True))
            yield Figure("off_target", **asdict(off), more={"target": mix}, **about)

    def _error_corrected(self, counts: Counts) -> dict[str, Any]:
        confusion = self.attribute.confusion
        if confusion is None:
            return {}
        names = ("error_corrected", "error_corrected_low", "error_corrected_high")
        try:
            found = classifier_error.corrected_bias_interval(counts, confusion, *self.drawing)
        except InvDiffError:
            return dict.fromkeys(names)
        return dict(zip(names, asdict(found).values(), strict=True))

    def _worst(self, of: str, counts: Counts, prompts: Sequence[str]) -> Figure:
        """The prompt of the largest Bias; its interval allows for its having been chosen."""
        seen = np.flatnonzero(counts.sum(1))
        row = seen[parity.prompt_bias(counts[seen]).argmax()]
        resamples, seed, confidence = self.drawing
        allowed = 1 - (1 - confidence) / len(seen)
        found = intervals.bias_interval(counts[row : row + 1], resamples, seed, allowed)
        where = {"attribute": self.attribute.name, "prompt": prompts[row] or ALL}
        images = int(counts[row].sum())
        return Figure("worst_prompt", of, **asdict(found), images=images, where=where)

    def _difference(self, before: Counts, after: Counts, prompts: Sequence[str]) -> Figure:
        """Bias of the second set less that of the first; pairs where seeds pair."""
        attribute, sides = self.attribute, self.sides
        if sides.paired:
            partners = sides.partners(attribute.labels["b"])
            rows = zip(sides.prompts["a"], attribute.labels["a"], partners, strict=True)
            pairs = [row for row in rows if row[0] in prompts]
            of, one, other = ([row[at] for row in pairs] for at in range(3))
            joint = parity.joint_table(of, one, other, prompts, attribute.classes)
            found = -intervals.bias_reduction(joint, *self.drawing)
            images, note = len(pairs), PAIRED
        else:
            found = intervals.bias_difference(before, after, *self.drawing)
            images, note = int(before.sum() + after.sum()), ""
        where = {"attribute": attribute.name}
        return Figure("bias", "b - a", **asdict(found), images=images, note=note, where=where)

    def _explicit(self, named: Mapping[str, str]) -> Iterator[Figure]:
        """Of the pictures whose prompt names a class, the share that is estimated to show it.

        Of pairs by seed also the share of the first ones that show it of which the second does too.
        """
        where, labels = {"attribute": self.attribute.name}, self.attribute.labels
        for of, prompts in self.sides.prompts.items():
            shown = showing(prompts, labels[of], named)
            yield _share("explicit_fidelity", of, shown, where)
        if self.sides.paired:
            partners = self.sides.partners(labels["b"])
            kept = keeping(self.sides.prompts["a"], labels["a"], partners, named)
            yield _share("explicit_kept", "b", kept, where)


def prompt_fidelity(attribute: Attribute, sides: Sides) -> Iterator[Figure]:
    """Share of the pictures in which the classifier sees their own prompt, where it knows it."""
    known = {klass: klass for klass in attribute.classes}
    for of, prompts in sides.prompts.items():
        shown = showing(prompts, attribute.labels[of], known)
        if shown[1]:
            yield _share("prompt_fidelity", of, shown, {})


def _share(
    name: str,
    of: str,
    counted: tuple[int, int],
    where: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> Figure:
    """``counted`` are those that have it and how many there are."""
    count, total = counted
    low, high = intervals.wilson(np.array([count]), np.array([total]))
    value = count / total if total else np.nan
    beside = {"count": count} | dict(more or {})
    return Figure(name, of, value, total, low=low[0], high=high[0], where=where, more=beside)
