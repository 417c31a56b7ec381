"""Figures of attributes: shares, Bias and its reduction, mixes, crossed groups, named classes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.core.measurement import parity
from invdiff.core.measurement.explicit_prompts import keeping, named_prompts, showing
from invdiff.core.uncertainty import counted, intervals
from invdiff.core.uncertainty.counted import UNDONE
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
            yield from self._of_side(of, counts, seen, rows)
        if rows:
            yield self._difference(tables["a"][rows], tables["b"][rows], free)
        if named:
            yield from self._explicit(named)

    def _of_side(
        self, of: str, counts: Counts, prompts: Sequence[str], rows: Sequence[int]
    ) -> Iterator[Figure]:
        """Shares of one set, and the Bias of the prompts in ``rows``."""
        attribute, drawing, undone = self.attribute, self.drawing, None
        if (confusion := attribute.confusion) is not None:
            with suppress(InvDiffError):
                undone = counted.shares_undone(counts, confusion, drawing)
        for row, prompt in enumerate(prompts):
            total = int(counts[row].sum())
            for column, klass in enumerate(attribute.classes):
                where = {"attribute": attribute.name, "prompt": prompt or ALL, "class": klass}
                cell = [one[row, column] for one in undone] if undone else [None] * 3
                more = dict(zip(UNDONE, cell, strict=True))
                yield _share("share", of, (int(counts[row, column]), total), where, more)
        if (own := counts[rows]).any():
            bias: dict[str, Any] = {} if confusion is None else dict.fromkeys(UNDONE)
            if undone and confusion is not None:
                bias = counted.bias_undone(own, confusion, drawing)
            yield from self._bias(of, own, [prompts[row] for row in rows], bias)

    def _bias(
        self, of: str, counts: Counts, prompts: Sequence[str], undone: Mapping[str, Any]
    ) -> Iterator[Figure]:
        drawing, target, where = self.drawing, self.target, {"attribute": self.attribute.name}
        known = counted.bias_of(counts, drawing)
        value, images, low, high = (known.pop(key) for key in ("value", "images", "low", "high"))
        about: dict[str, Any] = {"of": of, "images": images, "where": where}
        far = intervals.over_prompts(counts, parity.imbalance(counts.shape[1]), drawing.confidence)
        # prompts that are all at 0 or 1 tell nothing of their spread
        ends = (np.nan, np.nan) if far.low == far.high else (far.low, far.high)
        more = known | dict(undone)
        yield Figure("bias", value=value, low=low, high=high, prompts=ends, more=more, **about)
        if worst := counted.worst_prompt(counts, drawing):
            named = where | {"prompt": prompts[worst[0]] or ALL}
            yield Figure("worst_prompt", of, **worst[1], where=named)
        if target is not None and len(target) == counts.shape[1]:
            off = intervals.interval(counts, parity.off_target(target), *drawing)
            mix = dict(zip(self.attribute.classes, target.tolist(), strict=True))
            yield Figure("off_target", **asdict(off), more={"target": mix}, **about)

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
    count_of: tuple[int, int],
    where: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> Figure:
    """``count_of`` are those that have it and how many there are."""
    known = counted.share_of(*count_of)
    beside = {"count": known.pop("count")} | dict(more or {})
    return Figure(name, of, **known, where=where, more=beside)
