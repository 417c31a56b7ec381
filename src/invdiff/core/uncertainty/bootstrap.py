"""Bootstrap intervals of figures that are known to first order in their pictures."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from invdiff.core.measurement.influence import InfluenceExpansion, Parts
from invdiff.core.uncertainty.intervals import Interval

CHUNK = 4_000_000  # drawn counts that are held at a time


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
        _counts(min(rows, resamples - at), count, random) @ parts
        for at in range(0, resamples, rows)
    ]
    return np.concatenate(sums) - parts.sum()


def _counts(
    resamples: int, count: int, random: np.random.Generator
) -> Int[np.ndarray, "draw image"]:
    return random.multinomial(count, np.full(count, 1 / count), resamples)
