"""Bias on arrays: how unevenly pictures fall into classes, and how sure that is."""

from __future__ import annotations  # in `help()` a signature as it is written here

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from invdiff.app.arrays.inputs import Array, floats, require, require_between, same_count, texts
from invdiff.core.measurement import parity
from invdiff.core.uncertainty import counted
from invdiff.data.readers.listing import one_spelling
from invdiff.data.samples import plural
from invdiff.errors import ArgumentError


@dataclass(frozen=True, repr=False, eq=False)
class Bias:
    """Bias of pictures with its uncertainty; 0 is parity under every prompt.

    ``value`` is the plug-in figure of the paper, ``low`` to ``high`` its interval and ``corrected``
    the bias-corrected figure, without most of what chance alone adds. A balanced sampler shows
    ``parity_value`` on average with so many pictures, one that draws a single class ``largest``.
    ``counts`` are the pictures of each prompt in each class: nothing here knows who made the
    labels.
    """

    value: float
    low: float
    high: float
    corrected: float
    parity_value: float
    largest: float
    counts: Int[np.ndarray, "prompt klass"]
    prompts: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def pictures(self) -> int:
        """How many pictures were counted."""
        return int(self.counts.sum())

    @property
    def shares(self) -> Float[np.ndarray, "prompt klass"]:
        """The share of each class under each prompt, in 0..1; NaN for a prompt without pictures."""
        return parity.shares(self.counts)

    def __repr__(self) -> str:
        return (
            f"Bias {self.value:.3f} [{self.low:.3f}, {self.high:.3f}] of "
            f"{plural(self.pictures, 'picture')} under {plural(len(self.prompts), 'prompt')}\n"
            f"  bias-corrected {self.corrected:.3f}; a balanced sampler shows "
            f"{self.parity_value:.3f}, one class alone {self.largest:.3f}"
        )


def bias(
    labels: Sequence[str] | None = None,
    prompts: Sequence[str] = (),
    *,
    counts: Int[Array, "prompt klass"] | None = None,
    classes: Sequence[str] = (),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Bias:
    """Bias of a sampler, with an interval and what a balanced one would show.

    The mean over prompts of sum_{i<j} |n_i - n_j| / N / C(K, 2) (InvDiff, arXiv 2412.08480,
    section 5), for K classes and the N pictures of a prompt. The interval is the values that a test
    does not reject; unlike a bootstrap's it holds the truth at parity too.

    Args:
        labels: the class of every picture, with ``prompts``; or give ``counts``.
        prompts: the prompt of every picture; with ``counts`` the name of each row.
        counts: number of pictures of each prompt in each class.
        classes: all classes, in the order of the columns; () is those that occur. A class that no
            picture shows counts only if it is named here.
        confidence: of the interval, in (0, 1).
        resamples: tables simulated for each value that is tried.
        seed: owner of these simulations.

    Returns:
        The Bias, its interval, the counts and two values to compare it with.

    Raises:
        ArgumentError: neither or both of labels and counts, unlike lengths, a label that is not
            among the classes, counts that are no whole numbers, or fewer than two classes.

    Examples:
        >>> import invdiff
        >>> labels = ["woman"] * 90 + ["man"] * 10 + ["woman"] * 45 + ["man"] * 55
        >>> invdiff.bias(labels, ["a nurse"] * 100 + ["a pilot"] * 100, resamples=500)
        Bias 0.450 [0.297, 0.550] of 200 pictures under 2 prompts
          bias-corrected 0.437; a balanced sampler shows 0.080, one class alone 1.000
    """
    rule, given = "must be given if counts is not", "both or neither"
    require((labels is None) != (counts is None), "labels", rule, given, "give one of them")
    table, rows, columns = (
        _counted(labels, prompts, classes)
        if labels is not None
        else _checked(counts, prompts, classes)
    )
    advice = "name those that no picture shows as well: one class alone is no balance"
    require(len(columns) > 1, "classes", "must be two or more", list(columns), advice)
    require_between("confidence", confidence, 0, 1, "0.95 is usual")
    require_between("resamples", resamples, 99, np.inf, "2000 is what a report takes")
    known = counted.bias_of(table, (resamples, seed, confidence))
    return Bias(
        **{key: known[key] for key in ("value", "low", "high", "corrected", "parity_value")},
        largest=parity.largest_bias(len(columns)),
        counts=table,
        prompts=rows,
        classes=columns,
    )


Counted = tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]


def _counted(labels: Sequence[str], prompts: Sequence[str], classes: Sequence[str]) -> Counted:
    shown = one_spelling(texts("labels", labels, "for each picture").tolist(), "labels", classes)
    names = texts("prompts", prompts, "for each picture").tolist()
    same_count("labels", len(shown), "prompts", len(names), "give both for each picture")
    if without := shown.count(""):
        raise ArgumentError(
            "labels", "must name a class", f"{without} empty or nan", "leave these pictures out"
        )
    columns = tuple(classes) or tuple(sorted(set(shown)))
    if unknown := sorted(set(shown) - set(columns)):
        raise ArgumentError(
            "labels", f"must be among the classes {list(columns)}", repr(unknown[0]), "add it there"
        )
    rows = tuple(sorted(set(names)))
    return parity.table(names, shown, rows, columns), rows, columns


def _checked(counts: Array | None, prompts: Sequence[str], classes: Sequence[str]) -> Counted:
    assert counts is not None, "asked for with counts alone"
    found = floats("counts", counts, ("prompt", "class"))
    whole = (found >= 0).all() and (found == np.rint(found)).all() and found.sum() > 0
    rule = "must be whole numbers of pictures, 0 or more and not all 0"
    given = f"{found.min():g} to {found.max():g}"
    advice = "give counts rather than shares: what shares are worth depends on how many they are of"
    require(whole, "counts", rule, given, advice)
    rows = tuple(prompts) or tuple(f"prompt {row + 1}" for row in range(found.shape[0]))
    columns = tuple(classes) or tuple(f"class {one + 1}" for one in range(found.shape[1]))
    same_count("prompts", len(rows), "counts", found.shape[0], "name each row, or none")
    rule, fits = f"must be {found.shape[1]}, as counts has columns", len(columns) == found.shape[1]
    require(fits, "classes", rule, len(columns), "name each column, or none")
    return found.astype(np.int64), rows, columns
