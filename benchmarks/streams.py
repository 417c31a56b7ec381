"""Splits and mixtures of scores that do not fit in memory: the same optimum, in a few passes.

Scores come in chunks that can be gone through again. What is kept between chunks does not grow with
their number: a sample of the scores, counts and sums between its quantiles, and for the exact split
the scores of the few bins that can hold the cut.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from invdiff.core.discovery.refinement import fit_gaussians_on_direction
from invdiff.core.groups.two_groups import Ratio, membership

Chunks = Callable[[], Iterable[Float[np.ndarray, " sample"]]]
"""Goes through all scores from the beginning, each time it is called."""

BINS = 4096
SAMPLED = 1 << 16
PASSES = 20


@dataclass(frozen=True)
class Summary:
    """What one pass over scores keeps: their number, mean, and an evenly spread sample."""

    count: int
    mean: float
    sample: Float[np.ndarray, " kept"]


def summarise(chunks: Chunks, most: int = SAMPLED) -> Summary:
    """The summary of scores; every 2^k-th is in the sample, at most ``most`` of them."""
    count, total, stride = 0, 0.0, 1
    kept: list[np.ndarray] = []
    for chunk in chunks():
        kept.append(chunk[-count % stride :: stride])
        count, total = count + len(chunk), total + float(chunk.sum())
        while -(-count // stride) > most:
            kept, stride = [np.concatenate(kept)[::2]], 2 * stride
    sample = np.concatenate(kept) if kept else np.zeros(0)
    return Summary(count, total / max(1, count), sample)


def exact_cut(chunks: Chunks, min_share: float, summary: Summary | None = None) -> float:
    """The cut of :func:`~candidates.exact_split`: group 1 is what lies above it.

    With k scores of sum S below a cut, of n with sum 0, the variance between the sides is
    S^2 / (k (n - k)) up to a constant, which is convex in (k, S). The sorted scores of a bin run
    from its first corner (k, S) to its last within a triangle, so the variance is highest at one of
    the triangle's corners. Bins that cannot beat the best corner are never looked into.
    NaN when no cut leaves both sides ``min_share`` of the scores.
    """
    summary = summary or summarise(chunks)
    if summary.count < 2:
        return float("nan")
    edges = np.unique(np.quantile(summary.sample, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts, sums, low, high = _bins(chunks, edges, summary.mean)
    before, below = _starts(counts), _starts(sums)
    count = summary.count
    allowed = min_share * count, (1 - min_share) * count
    bound = _bound(before, below, counts, sums, low, high, count)
    inside = (before[1:] >= allowed[0]) & (before[:-1] <= allowed[1]) & (counts > 0)
    fits = (before >= allowed[0]) & (before <= allowed[1]) & (before > 0) & (before < count)
    best = float(np.where(fits, _between(before, below, count), -1.0).max())
    wanted = inside & (bound * (1 + 1e-9) >= best)
    found = _gather(chunks, edges, wanted)
    cuts: list[tuple[float, float]] = []
    for index in np.flatnonzero(wanted):
        values = np.sort(found[int(index)])
        sizes = before[index] + np.arange(1, len(values) + 1)
        lower = below[index] + np.cumsum(values - summary.mean)
        usable = (sizes >= allowed[0]) & (sizes <= allowed[1]) & (sizes < count)
        if usable.any():
            between = np.where(usable, _between(sizes, lower, count), -1.0)
            at = int(between.argmax())
            cuts.append((float(between[at]), float(values[at])))
    return max(cuts, key=lambda pair: pair[0])[1] if cuts else float("nan")


def two_gaussians(
    chunks: Chunks, summary: Summary | None = None
) -> tuple[Ratio, float, Float[np.ndarray, " 2"]]:
    """Two Gaussians fitted to all scores: log-ratio, prior log-odds, and the two means.

    Expectation-maximisation begins on the sample; a pass over all scores is one more step of it.
    ``membership(scores, ratio, prior)`` of :mod:`discovery.shared_shift` is then q of the second.
    """
    summary = summary or summarise(chunks)
    spread = float(summary.sample.std()) + 1e-300
    unit = (summary.sample - summary.mean) / spread
    ratio, prior = fit_gaussians_on_direction(unit, (unit > np.quantile(unit, 0.8)) * 0.96 + 0.02)
    moments = np.zeros((2, 3))
    for _ in range(PASSES):
        moments = _weighted_moments(chunks, summary.mean, spread, ratio, prior)
        updated, odds = _fitted(moments)
        moved = np.abs(np.subtract((*updated, odds), (*ratio, prior))).max()
        ratio, prior = updated, odds
        if moved < 1e-4 * (1 + np.abs(ratio).max()):
            break
    means = summary.mean + spread * moments[:, 1] / moments[:, 0]
    return _rescaled(ratio, summary.mean, spread), prior, means


def _weighted_moments(
    chunks: Chunks, mean: float, spread: float, ratio: Ratio, prior: float
) -> Float[np.ndarray, "2 3"]:
    """Mass, sum and sum of squares of both components."""
    moments = np.zeros((2, 3))
    for chunk in chunks():
        unit = (chunk - mean) / spread
        q = membership(unit, ratio, prior)
        powers = np.stack([np.ones_like(unit), unit, unit**2], 1)
        moments[1] += q @ powers
        moments[0] += (1 - q) @ powers
    return moments


def _fitted(moments: Float[np.ndarray, "2 3"]) -> tuple[Ratio, float]:
    mass = moments[:, 0] + 1e-9
    mean = moments[:, 1] / mass
    variance = np.maximum(moments[:, 2] / mass - mean**2, 0) + 1e-3
    (none, one), (thin, wide) = mean, variance
    ratio = (
        float(0.5 * (none**2 / thin - one**2 / wide - np.log(wide / thin))),
        float(one / wide - none / thin),
        float(0.5 * (1 / thin - 1 / wide)),
    )
    return ratio, float(np.log(mass[1] / mass[0]))


def _rescaled(ratio: Ratio, mean: float, spread: float) -> Ratio:
    """The log-ratio on scores of one on (score - mean) / spread."""
    a, b, c = ratio
    slope, curve = b / spread, c / spread**2
    return a - slope * mean + curve * mean**2, slope - 2 * curve * mean, curve


def _bins(
    chunks: Chunks, edges: np.ndarray, mean: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Count, sum, lowest and highest of the scores minus ``mean`` in each bin."""
    bins = len(edges) + 1
    counts, sums = np.zeros(bins, np.int64), np.zeros(bins)
    low, high = np.full(bins, np.inf), np.full(bins, -np.inf)
    for chunk in chunks():
        index = np.searchsorted(edges, chunk)
        values = chunk - mean
        counts += np.bincount(index, minlength=bins)
        sums += np.bincount(index, weights=values, minlength=bins)
        np.minimum.at(low, index, values)
        np.maximum.at(high, index, values)
    return counts, sums, low, high


def _bound(
    before: np.ndarray,
    below: np.ndarray,
    counts: np.ndarray,
    sums: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    count: int,
) -> np.ndarray:
    """The highest variance between sides that a cut in each bin can have."""
    width = np.where(counts > 0, high - low, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = np.where(width > 0, (counts * high - sums) / width, 0.0)
        steps = np.clip(np.nan_to_num(steps), 0, counts)
        lowest = below[:-1] + steps * np.where(counts > 0, low, 0.0)
    corners = [
        _between(before[:-1], below[:-1], count),
        _between(before[1:], below[1:], count),
        _between(before[:-1] + steps, lowest, count),
    ]
    return np.max(corners, axis=0)


def _between(size: np.ndarray, below: np.ndarray, count: int) -> np.ndarray:
    """S^2 / (k (n - k)), 0 without a cut."""
    room = size * (count - size).astype(float)
    return np.where(room > 0, below**2 / np.maximum(room, 1e-300), 0.0)


def _starts(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])


def _gather(chunks: Chunks, edges: np.ndarray, wanted: np.ndarray) -> dict[int, np.ndarray]:
    """The scores in the wanted bins."""
    parts: dict[int, list[np.ndarray]] = {int(index): [] for index in np.flatnonzero(wanted)}
    for chunk in chunks():
        index = np.searchsorted(edges, chunk)
        here = wanted[index]
        index, values = index[here], chunk[here]
        for one in np.unique(index):
            parts[int(one)].append(values[index == one])
    return {index: np.concatenate(found) for index, found in parts.items()}
