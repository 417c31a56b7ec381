"""Intervals for shares, Bias and its reduction that cover the truth as often as they say.

The plug-in Bias is a mean of absolute values: at parity it is not normal, is too large on average
and its bootstrap never reaches 0. So each interval is the values that a test does not reject
(:mod:`uncertainty.hypotheses`). What the test looks at is :func:`corrected`, which is always
inside. Measured coverage: docs/concepts/what-the-numbers-mean.md. Figures that are known to first
order in their pictures have a bootstrap interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from invdiff.core.measurement.influence import InfluenceExpansion, Parts
from invdiff.core.measurement.parity import Measure, bias, imbalance
from invdiff.core.uncertainty import hypotheses
from invdiff.core.uncertainty.hypotheses import Counts, PairCounts
from invdiff.core.uncertainty.sampler_paths import paths_of

CHUNK = 4_000_000  # drawn counts that are held at a time


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its confidence interval; NaN where there was nothing to measure."""

    value: float
    low: float
    high: float

    def __neg__(self) -> "Interval":
        """A difference the other way round."""
        return Interval(0 - self.value, 0 - self.high, 0 - self.low)


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


def corrected(counts: Counts, measure: Measure) -> float:
    """The mean measure without most of the plug-in's upward error; NaN without images.

    For each prompt the value at which the plug-in is on average what was observed, 0 where less
    was observed than a balanced sampler shows. Some error is left: no estimate of an absolute
    value is right on average at 0 (Cai and Low 2011, Annals of Statistics 39, 1012).
    """
    counts = seen(counts)
    return float(paths_of(counts, measure).corrected(counts).mean()) if len(counts) else np.nan


def interval(
    counts: Counts, measure: Measure, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """The mean measure over prompts (plug-in) and the values that fit the counts.

    The ends are about the sampler: with many prompts of few images the plug-in itself, too large
    by its upward error, can lie above them; :func:`corrected` cannot. ``resamples`` tables are
    simulated for each value that is tried, all from ``seed``.
    """
    counts = seen(counts)
    if not len(counts):
        return NOTHING
    tested = hypotheses.mean_measure(counts, measure, resamples, seed)
    return Interval(float(measure.of(counts).mean()), *tested.ends(confidence))


def bias_interval(
    counts: Counts, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """:func:`interval` of the Bias of these prompts."""
    return interval(counts, imbalance(counts.shape[-1]), resamples, seed, confidence)


def bias_reduction(
    joint: PairCounts, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Bias before less Bias after, from pairs of one seed; positive means less biased.

    Pairs are simulated together with the observed association (the odds ratios of the table), so
    what both members share cancels.
    """
    joint = joint[joint.sum((1, 2)) > 0]
    if not len(joint):
        return NOTHING
    tested = hypotheses.paired_change(joint, resamples, seed)
    return Interval(float(bias(joint.sum(2)) - bias(joint.sum(1))), *tested.ends(confidence))


def bias_difference(
    before: Counts, after: Counts, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Bias after less Bias before, of sets that share no seeds; negative means less biased.

    Prompts without images in either set are left out of both.
    """
    both = (before.sum(-1) > 0) & (after.sum(-1) > 0)
    before, after = before[both], after[both]
    if not len(before):
        return NOTHING
    tested = hypotheses.change(before, after, resamples, seed)
    return -Interval(float(bias(before) - bias(after)), *tested.ends(confidence))


def over_prompts(counts: Counts, measure: Measure, confidence: float = 0.95) -> Interval:
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


def seen(counts: Counts) -> Int[np.ndarray, "other klass"]:
    """The rows of the prompts that have images."""
    return counts[counts.sum(-1) > 0]


def bootstrap_interval(
    figure: InfluenceExpansion,
    prompt_of: Sequence[str],
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    *,
    over: str = "images",
) -> Interval:
    """The figure with the ends of its bootstrap interval.

    ``over`` "images": images are drawn again within their prompts (and the reference within
    itself), for these prompts. "prompts": whole prompts are drawn again, for prompts like these;
    NaN ends with fewer than two. All draws come from ``seed``.
    """
    names, codes = np.unique(np.asarray(prompt_of, dtype=str), return_inverse=True)
    random = np.random.default_rng(seed)
    drawn = figure.value + figure.rest * random.normal(size=resamples)
    if over == "images":
        for code in range(len(names)):
            drawn += _redrawn(figure.parts[codes == code], resamples, random)
        drawn += _redrawn(figure.reference, resamples, random)
    elif len(names) < 2:
        return Interval(figure.value, np.nan, np.nan)
    else:
        drawn += _redrawn(np.bincount(codes, figure.parts), resamples, random)
    low, high = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(figure.value, float(low), float(high))


def _redrawn(
    parts: Parts, resamples: int, random: np.random.Generator
) -> Float[np.ndarray, " draw"]:
    """Sums of as many parts drawn with replacement, less their mean: 0 on average."""
    count = len(parts)
    if not count:
        return np.zeros(resamples)
    rows = max(1, CHUNK // count)
    sums = [
        random.multinomial(count, np.full(count, 1 / count), min(rows, resamples - at)) @ parts
        for at in range(0, resamples, rows)
    ]
    return np.concatenate(sums) - parts.sum()
