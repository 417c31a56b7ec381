"""Samplers of every value of a measure, as near to the observed shares as that allows.

A test of "the Bias is b" needs samplers whose Bias is b, although many mixes have it. Of each
prompt one path is taken: from the centre (parity, Bias 0) straight to the observed shares and on
to a sampler of one class only. :func:`spread` says how far along each prompt has to be.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

from invdiff.core.measurement.parity import Measure, shares

# Places on a path where measure and expectation are known; between them they are interpolated.
# Closer near the centre, where the expectation is flat.
TO_OBSERVED = np.linspace(0, 1, 33) ** 2
TO_CORNER = np.linspace(1, 2, 17)[1:]
PLACES = np.concatenate([TO_OBSERVED, TO_CORNER])
# Keeps an expectation that does not depend on the sampler (one image) increasing.
RAMP = 1e-12

Mixes = Float[np.ndarray, "prompt klass"]
Values = Float[np.ndarray, " prompt"]
Totals = Int[np.ndarray, " prompt"]
Pairs = Float[np.ndarray, "prompt before after"]


@dataclass(frozen=True)
class Paths:
    """One path for each prompt that has images.

    ``values`` and ``expected`` are the measure and the mean of its plug-in at ``PLACES``, both
    non-decreasing; ``observed`` is the plug-in.
    """

    share: Mixes
    totals: Totals
    measure: Measure
    values: Float[np.ndarray, "prompt place"]
    expected: Float[np.ndarray, "prompt place"]
    observed: Values

    @property
    def largest(self) -> Values:
        """The largest value of the measure on each path."""
        return self.values[:, -1]

    def at(self, value: Values) -> Mixes:
        """The shares of samplers with these values of the measure."""
        rows = zip(value, self.values, strict=True)
        place = np.array([np.interp(v, known, PLACES) for v, known in rows])
        return _walk(self.share, self.measure.centre, place)

    def corrected(
        self, counts: Num[np.ndarray, "*draw prompt klass"]
    ) -> Float[np.ndarray, "*draw prompt"]:
        """For each prompt the value whose plug-in is on average what the counts show, else 0."""
        plain = self.measure.of(counts)
        columns = [
            np.interp(plain[..., p], self.expected[p], self.values[p])
            for p in range(len(self.totals))
        ]
        return np.stack(columns, axis=-1)


def paths_of(counts: Int[np.ndarray, "prompt klass"], measure: Measure) -> Paths:
    """The paths through the shares of ``counts``, whose rows must not be empty."""
    assert (counts.sum(-1) > 0).all(), "a path leads through observed shares"
    return paths_through(shares(counts), counts.sum(-1), measure)


def paths_through(share: Mixes, totals: Totals, measure: Measure) -> Paths:
    """The paths through ``share``, which were seen in so many images."""
    prompts, places = len(share), len(PLACES)
    mixes = np.stack([_walk(share, measure.centre, np.full(prompts, t)) for t in PLACES], axis=1)
    expected = measure.expected(mixes.reshape(-1, mixes.shape[-1]), np.repeat(totals, places))
    ramp = RAMP * np.arange(places)
    return Paths(
        share,
        totals,
        measure,
        np.maximum.accumulate(measure.of(mixes), axis=1),
        np.maximum.accumulate(expected.reshape(prompts, places), axis=1) + ramp,
        measure.of(share),
    )


def spread(
    start: Float[np.ndarray, " part"],
    totals: Int[np.ndarray, " part"],
    most: Float[np.ndarray, " part"],
    sign: Float[np.ndarray, " part"],
    mean: float,
) -> Float[np.ndarray, " part"]:
    """The values in 0..``most`` likest to ``start`` whose signed mean is ``mean``.

    All are tilted by a common amount, more those with fewer images: artanh(v / most) moves by
    ``sign`` * lambda / ``totals``, the exponential tilt of a binomial share, and stops at 0. Half
    an image less than ``start`` = ``most`` shows keeps the tilt finite.
    """
    begin = np.arctanh(np.minimum(start / most, totals / (totals + 1)))
    low, high = -40.0 * totals.max(), 40.0 * totals.max()
    for _ in range(60):
        middle = (low + high) / 2
        found = most * np.tanh(np.maximum(begin + sign * middle / totals, 0))
        low, high = (middle, high) if (sign * found).mean() < mean else (low, middle)
    return most * np.tanh(np.maximum(begin + sign * high / totals, 0))


def fitted(start: Pairs, before: Mixes, after: Mixes) -> Pairs:
    """The tables with these margins and the odds ratios of ``start`` (iterative scaling)."""
    cells = start
    for _ in range(30):
        cells = cells * _ratio(before, cells.sum(2))[:, :, None]
        cells = cells * _ratio(after, cells.sum(1))[:, None, :]
    return cells / cells.sum((1, 2), keepdims=True)


def _walk(share: Mixes, centre: Float[np.ndarray, " klass"], place: Values) -> Mixes:
    """Shares at ``place``: 0 is the centre, 1 the observed shares, 2 one class only."""
    corner = np.eye(len(centre))[(share - centre).argmax(-1)]
    first, second = place.clip(0, 1)[:, None], (place - 1).clip(0, 1)[:, None]
    reached = centre + first * (share - centre)
    return reached + second * (corner - reached)


def _ratio(wanted: Mixes, present: Mixes) -> Mixes:
    return np.divide(wanted, present, out=np.zeros_like(wanted), where=present > 0)
