"""What is tested for each interval, Bias of one set or its change between two, and its inversion.

Every test looks at the mean corrected value of the prompts (:meth:`sampler_paths.Paths.corrected`)
and simulates samplers on the paths through the observed shares. A change is measured
in its own standard errors (the bootstrap-t, Hall 1988, Annals of Statistics 16, 927): how far
corrected values scatter depends on how large they are, which is not what is tested.

An interval is the values that a test does not reject. At each value tried, samplers that have it
are simulated and it is asked how often they look as extreme as what was observed (parametric
bootstrap with the nuisance shares fitted, as in Chuang and Lai 2000, Statistica Sinica 10). Which
outcomes are extreme near the smallest value is ordered as by Feldman and Cousins (1998, Physical
Review D 57, 3873), so that no interval is empty. Counts are whole numbers; an outcome exactly as
extreme as the observed one counts half (the mid-p value), without which the intervals would be too
wide.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from invdiff.core.measurement.parity import Measure, imbalance, shares
from invdiff.core.uncertainty.sampler_paths import Mixes, Paths, fitted, paths_of, spread

# A simulated tail is known no better than this makes sense: halvings of the searched range.
HALVINGS = 14
TIE = 1e-9

Draws = Float[np.ndarray, " draw"]
Counts = Int[np.ndarray, "prompt klass"]
PairCounts = Int[np.ndarray, "prompt before after"]
Tables = tuple[Num[np.ndarray, "..."], Num[np.ndarray, "..."]]
Scatter = Callable[[Float[np.ndarray, "draw prompt"]], Draws]
# Shares of the largest value at which the scatter is simulated, and with how many tables. A rough
# one will do: pictures and the samplers that they are compared with are measured in the same.
SCATTER_AT = np.linspace(0, 1, 13)
SCATTER_TABLES = 100


@dataclass(frozen=True)
class Inversion:
    """A test of each value in ``least``..``most``.

    ``simulate`` gives what samplers of a value show; ``observed`` is what was shown. With
    ``bounded`` nothing is below ``least``: an outcome that is smaller than ``least`` itself
    explains is then no evidence against small values.
    """

    observed: float
    simulate: Callable[[float], Draws]
    least: float
    most: float
    bounded: bool

    def accepts(self, value: float, confidence: float = 0.95) -> bool:
        """Whether a test at level 1 - ``confidence`` does not reject ``value``."""
        drawn = self.simulate(value)
        if self.bounded:
            return _worse(drawn, self.observed, self._floor) > 1 - confidence
        return _smaller(drawn, self.observed) > 1 - confidence

    def ends(self, confidence: float = 0.95) -> tuple[float, float]:
        """Ends of the values that are accepted; ``observed`` is between them."""
        return self._end(self.least, confidence), self._end(self.most, confidence)

    @cached_property
    def _floor(self) -> Draws:
        return self.simulate(self.least)

    def _end(self, outside: float, confidence: float) -> float:
        if self.accepts(outside, confidence):
            return outside
        inside = min(max(self.observed, self.least), self.most)
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            if self.accepts(middle, confidence):
                inside = middle
            else:
                outside = middle
        return (inside + outside) / 2


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


def _smaller(drawn: Draws, observed: float) -> float:
    """The smaller tail, doubled."""
    below = float((drawn < observed - TIE).mean())
    tie = float((np.abs(drawn - observed) <= TIE).mean())
    return 2 * min(below + tie / 2, 1 - below - tie / 2)


def _worse(drawn: Draws, observed: float, floor: Draws) -> float:
    """Chance of an outcome that fits the value worse, compared with how it fits the floor.

    Fit is the normal log likelihood; for outcomes that the floor explains it is counted from
    there.
    """
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


def mean_measure(counts: Counts, measure: Measure, resamples: int, seed: int) -> Inversion:
    """Is the mean measure of these prompts, all with images, a given value?"""
    paths = paths_of(counts, measure)
    upward = np.ones(len(counts))

    def simulate(value: float) -> Draws:
        values = spread(paths.observed, paths.totals, paths.largest, upward, value)
        drawn = redraw(paths.at(values), paths.totals, resamples, seed)
        return paths.corrected(drawn).mean(-1)

    observed = float(paths.corrected(counts).mean())
    return Inversion(observed, simulate, 0.0, float(paths.largest.mean()), bounded=True)


def paired_change(joint: PairCounts, resamples: int, seed: int) -> Inversion:
    """Is Bias before less Bias after a given value, if pairs keep their odds ratios?"""
    flat, totals = joint.reshape(len(joint), -1), joint.sum((1, 2))
    # Half an image, spread over the cells: a pair that was not seen is possible.
    start = shares(flat + 0.5 / flat.shape[1]).reshape(joint.shape)

    def tables(before: Mixes, after: Mixes) -> Tables:
        cells = fitted(start, before, after).reshape(flat.shape)
        pairs = redraw(cells, totals, resamples, seed).reshape(resamples, *joint.shape)
        return pairs.sum(-1), pairs.sum(-2)

    return _change(joint.sum(2), joint.sum(1), tables, resamples, seed)


def change(before: Counts, after: Counts, resamples: int, seed: int) -> Inversion:
    """:func:`paired_change` of two sets that were drawn independently."""

    def tables(one: Mixes, other: Mixes) -> Tables:
        return (
            redraw(one, before.sum(-1), resamples, seed),
            redraw(other, after.sum(-1), resamples, seed + 1),
        )

    return _change(before, after, tables, resamples, seed)


def _change(
    before: Counts,
    after: Counts,
    tables: Callable[[Mixes, Mixes], Tables],
    resamples: int,
    seed: int,
) -> Inversion:
    """Bias of ``before`` less that of ``after``; ``tables`` simulates both for given mixes."""
    measure = imbalance(before.shape[-1])
    first, second = paths_of(before, measure), paths_of(after, measure)
    prompts = len(before)
    start = np.concatenate([first.corrected(before), second.corrected(after)])
    start = start * shrinkage([first, second], resamples, seed)
    totals = np.concatenate([first.totals, second.totals])
    largest = np.concatenate([first.largest, second.largest])
    start = start * totals / (totals + 1)  # half an image each: what was not seen is possible
    sign = np.repeat([1.0, -1.0], prompts)
    scatters = scatter(first, seed), scatter(second, seed + 1)

    def seen(
        one: Num[np.ndarray, "draw prompt klass"], other: Num[np.ndarray, "draw prompt klass"]
    ) -> tuple[Draws, Draws]:
        """The change that two sets of counts show, and the scale of its scatter.

        That is the standard error, but for a factor, of sets without pairs.
        """
        value, next_value = first.corrected(one), second.corrected(other)
        error = np.sqrt(scatters[0](value) + scatters[1](next_value))
        return (value - next_value).mean(-1), error

    observed, own_error = seen(before[None], after[None])

    def simulate(value: float) -> Draws:
        values = spread(start, totals, largest, sign, value / 2)  # the mean is over both halves
        shown, error = seen(*tables(first.at(values[:prompts]), second.at(values[prompts:])))
        return value + (shown - value) * own_error / error

    most = float(first.largest.mean())
    return Inversion(float(observed[0]), simulate, -most, most, bounded=False)


def scatter(paths: Paths, seed: int) -> Scatter:
    """The variance of the corrected values, summed over prompts, by these values.

    Values are capped half an image below the largest, where nothing would scatter.
    """
    places = SCATTER_AT[:, None] * paths.largest
    mixes = np.concatenate([paths.at(place) for place in places])
    totals = np.tile(paths.totals, len(places))
    drawn = redraw(mixes, totals, SCATTER_TABLES, seed)
    values = paths.corrected(drawn.reshape(SCATTER_TABLES, *places.shape, -1))
    known = values.var(0) + 1e-12
    most = paths.largest * paths.totals / (paths.totals + 1)

    def of(values: Float[np.ndarray, "draw prompt"]) -> Draws:
        columns = zip(np.minimum(values, most).T, places.T, known.T, strict=True)
        return np.sum([np.interp(*column) for column in columns], axis=0)

    return of


def shrinkage(sets: Sequence[Paths], resamples: int, seed: int) -> float:
    """How far all imbalances are to be taken towards parity before samplers are fitted, 0 to 1.

    1 far from parity. Where balanced samplers explain what was seen, the corrected values are
    chance, and samplers that had them would scatter more than the true ones: a change that is
    extreme is one whose values happened to be large. So they are shrunk together, as James and
    Stein (1961) do, with squares that balanced samplers show as units: to parity where no more was
    seen than chance shows, and by the *square* of the part that it explains, so that values a
    little off parity stay as they are.
    """
    units = []
    for paths in sets:
        even = paths.at(np.zeros(len(paths.totals)))
        drawn = paths.measure.of(redraw(even, paths.totals, resamples, seed))
        units.append(paths.observed**2 / np.square(drawn).mean(0))
    square = np.concatenate(units)
    chance = len(square) / max(square.sum(), 1e-9)
    return float(max(0.0, 1 - chance**2))
