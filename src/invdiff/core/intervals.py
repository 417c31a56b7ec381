"""Intervals for shares, Bias and its reduction that cover the truth as often as they say.

The plug-in Bias is a mean of absolute values: at parity it is not normal, is too large on average
and its bootstrap never reaches 0. So each interval holds the values that a test does not reject:
simulate samplers of that Bias, nearest to the observed counts, and ask how often they look as
extreme (test inversion with the nuisance shares fitted, as in Chuang and Lai 2000, Statistica
Sinica 10). The order of "extreme" near the smallest value is that of Feldman and Cousins (1998,
Physical Review D 57, 3873), so that no interval is empty. Measured coverage: docs/evaluation.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import stats

from invdiff.core.parity import Measure, bias, imbalance, shares
from invdiff.core.paths import paths_of, spread

# A simulated tail is known no better than this makes sense: halvings of the searched range.
HALVINGS = 14
TIE = 1e-9

Draws = Float[np.ndarray, " draw"]
Mixes = Float[np.ndarray, "prompt klass"]


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its confidence interval; NaN where there was nothing to measure."""

    value: float
    low: float
    high: float


NOTHING = Interval(np.nan, np.nan, np.nan)


def wilson(
    count: Int[np.ndarray, "*cell"], total: Int[np.ndarray, "*cell"], confidence: float = 0.95
) -> tuple[Float[np.ndarray, "*cell"], Float[np.ndarray, "*cell"]]:
    """Ends of the score interval of a share (Wilson 1927); NaN where ``total`` is 0."""
    z = stats.norm.ppf(0.5 + confidence / 2)
    size = np.where(total > 0, total, np.nan)
    share = count / size
    scale = 1 + z**2 / size
    centre = (share + z**2 / (2 * size)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    low = np.where(count == 0, 0 * share, centre - half)
    return low, np.where(count == total, 0 * share + 1, centre + half)


def corrected(counts: Int[np.ndarray, "prompt klass"], measure: Measure) -> float:
    """The mean measure without most of the plug-in's upward error; NaN without images.

    For each prompt the value at which the plug-in is on average what was observed, 0 where less
    was observed than a balanced sampler shows. Some error is left: no estimate of an absolute
    value is right on average at 0 (Cai and Low 2011, Annals of Statistics 39, 1012).
    """
    counts = seen(counts)
    return float(paths_of(counts, measure).corrected(counts).mean()) if len(counts) else np.nan


def interval(
    counts: Int[np.ndarray, "prompt klass"],
    measure: Measure,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """The mean measure over prompts (plug-in) and the values that fit the counts.

    The ends are about the sampler: with many prompts of few images the plug-in itself, too large
    by its upward error, can lie above them. ``resamples`` tables are simulated for each value that
    is tried, all from ``seed``.
    """
    counts = seen(counts)
    if not len(counts):
        return NOTHING
    paths = paths_of(counts, measure)

    def simulate(value: float) -> Draws:
        one = np.ones(len(counts))
        values = spread(paths.observed, paths.totals, paths.largest, one, value)
        drawn = redraw(paths.at(values), paths.totals, resamples, seed)
        return paths.corrected(drawn).mean(-1)

    observed = float(paths.corrected(counts).mean())
    ends = invert(observed, simulate, 0.0, float(paths.largest.mean()), confidence, bottom=True)
    return Interval(float(paths.observed.mean()), *ends)


def bias_interval(
    counts: Int[np.ndarray, "prompt klass"],
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """:func:`interval` of the Bias of these prompts."""
    return interval(counts, imbalance(counts.shape[-1]), resamples, seed, confidence)


def bias_reduction(
    joint: Int[np.ndarray, "prompt before after"],
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Bias before less Bias after, from pairs of one seed; positive means less biased.

    Pairs are simulated together with the observed association (the odds ratios of the table), so
    what both members share cancels.
    """
    joint = joint[joint.sum((1, 2)) > 0]
    if not len(joint):
        return NOTHING
    start = shares(joint.reshape(len(joint), -1) + 0.5 / joint[0].size).reshape(joint.shape)

    def tables(
        before: Mixes, after: Mixes
    ) -> tuple[Num[np.ndarray, "..."], Num[np.ndarray, "..."]]:
        cells = fitted(start, before, after).reshape(len(joint), -1)
        drawn = redraw(cells, joint.sum((1, 2)), resamples, seed)
        pairs = drawn.reshape(resamples, *joint.shape)
        return pairs.sum(-1), pairs.sum(-2)

    return _difference(joint.sum(2), joint.sum(1), tables, confidence)


def bias_difference(
    before: Int[np.ndarray, "prompt klass"],
    after: Int[np.ndarray, "prompt klass"],
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """:func:`bias_reduction` for sets of pictures that share no seeds.

    Prompts without images in either set are left out of both.
    """
    both = (before.sum(-1) > 0) & (after.sum(-1) > 0)
    before, after = before[both], after[both]
    if not len(before):
        return NOTHING

    def tables(one: Mixes, other: Mixes) -> tuple[Num[np.ndarray, "..."], Num[np.ndarray, "..."]]:
        return (
            redraw(one, before.sum(-1), resamples, seed),
            redraw(other, after.sum(-1), resamples, seed + 1),
        )

    return _difference(before, after, tables, confidence)


def over_prompts(
    counts: Int[np.ndarray, "prompt klass"], measure: Measure, confidence: float = 0.95
) -> Interval:
    """Mean measure with an interval for prompts yet unseen: these are a sample of them.

    Student's t over the prompts' corrected values; NaN ends with fewer than two prompts.
    """
    counts = seen(counts)
    if not len(counts):
        return NOTHING
    paths = paths_of(counts, measure)
    values = paths.corrected(counts)
    plain = float(measure.of(counts).mean())
    if len(values) < 2:
        return Interval(plain, np.nan, np.nan)
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * stats.sem(values)
    most = float(paths.largest.max())
    return Interval(plain, max(0.0, values.mean() - half), min(most, values.mean() + half))


def fitted(
    start: Float[np.ndarray, "prompt before after"], before: Mixes, after: Mixes
) -> Float[np.ndarray, "prompt before after"]:
    """The tables with these margins and the odds ratios of ``start`` (iterative scaling)."""
    cells = start
    for _ in range(30):
        cells = cells * _ratio(before, cells.sum(2))[:, :, None]
        cells = cells * _ratio(after, cells.sum(1))[:, None, :]
    return cells / cells.sum((1, 2), keepdims=True)


def redraw(
    chances: Float[np.ndarray, "prompt cell"],
    totals: Int[np.ndarray, " prompt"],
    resamples: int,
    seed: int,
) -> Int[np.ndarray, "draw prompt cell"]:
    """Tables of counts in which ``totals`` images of each prompt follow ``chances``."""
    # Rounding may leave a sum of 1 + 1e-16, which the generator refuses.
    chances = chances.clip(0) / chances.clip(0).sum(-1, keepdims=True)
    return np.random.default_rng(seed).multinomial(totals, chances, (resamples, len(totals)))


def seen(counts: Int[np.ndarray, "prompt klass"]) -> Int[np.ndarray, "other klass"]:
    """The rows of the prompts that have images."""
    return counts[counts.sum(-1) > 0]


def _difference(
    before: Int[np.ndarray, "prompt klass"],
    after: Int[np.ndarray, "prompt klass"],
    tables: Callable[[Mixes, Mixes], tuple[Num[np.ndarray, "..."], Num[np.ndarray, "..."]]],
    confidence: float,
) -> Interval:
    """Bias of ``before`` less that of ``after``; ``tables`` simulates both for given mixes."""
    measure = imbalance(before.shape[-1])
    first, second = paths_of(before, measure), paths_of(after, measure)
    prompts = len(before)
    start = np.concatenate([first.corrected(before), second.corrected(after)])
    totals = np.concatenate([first.totals, second.totals])
    largest = np.concatenate([first.largest, second.largest])
    start = start * totals / (totals + 1)  # half an image each: what was not seen is possible
    sign = np.repeat([1.0, -1.0], prompts)

    def simulate(value: float) -> Draws:
        values = spread(start, totals, largest, sign, value / 2)  # the mean is over both halves
        mixes = first.at(values[:prompts]), second.at(values[prompts:])
        one, other = tables(*mixes)
        return (first.corrected(one) - second.corrected(other)).mean(-1)

    observed = float((first.corrected(before) - second.corrected(after)).mean())
    most = float(first.largest.mean())
    ends = invert(observed, simulate, -most, most, confidence, bottom=False)
    return Interval(float(bias(before) - bias(after)), *ends)


def invert(
    observed: float,
    simulate: Callable[[float], Draws],
    least: float,
    most: float,
    confidence: float,
    bottom: bool,
) -> tuple[float, float]:
    """Ends of the values that a test at level 1 - ``confidence`` does not reject.

    The test orders outcomes by their likelihood at the value tried, relative (if there is a
    ``bottom``) to the likelihood at ``least`` for outcomes that are smaller than it explains.
    """
    floor = simulate(least) if bottom else None

    def accepted(value: float) -> bool:
        drawn = simulate(value)
        return _tail(drawn, observed, floor) > 1 - confidence

    def end(outside: float) -> float:
        if accepted(outside):
            return outside
        inside = min(max(observed, least), most)
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if accepted(middle) else (inside, middle)
        return (inside + outside) / 2

    return end(least), end(most)


def _tail(drawn: Draws, observed: float, floor: Draws | None) -> float:
    """Chance of an outcome as extreme as ``observed``; one that is equally so counts half.

    Without a ``floor`` the smaller tail, doubled.
    """
    if floor is None:
        below = float((drawn < observed - TIE).mean())
        tie = float((np.abs(drawn - observed) <= TIE).mean())
        return 2 * min(below + tie / 2, 1 - below - tie / 2)
    spread = max(drawn.std(), TIE)
    place, here = (drawn - drawn.mean()) / spread, (observed - drawn.mean()) / spread
    order = _below(drawn, floor) - place**2
    own = float(_below(observed, floor)) - here**2
    tied = np.abs(order - own) <= TIE
    return float(((order < own) & ~tied).mean() + tied.mean() / 2)


def _below(
    values: Float[np.ndarray, " draw"] | float, floor: Float[np.ndarray, " other"]
) -> Float[np.ndarray, "..."] | np.floating[Any]:
    return np.minimum((values - floor.mean()) / max(floor.std(), TIE), 0) ** 2


def _ratio(
    wanted: Float[np.ndarray, "prompt klass"], present: Float[np.ndarray, "prompt klass"]
) -> Float[np.ndarray, "prompt klass"]:
    return np.divide(wanted, present, out=np.zeros_like(wanted), where=present > 0)
