"""What is tested for each interval: Bias of one set, and the change of Bias between two.

Every test looks at the mean corrected value of the prompts (:meth:`sampler_paths.Paths.corrected`)
and simulates samplers on the paths through the observed shares. A change is measured
in its own standard errors (the bootstrap-t, Hall 1988, Annals of Statistics 16, 927): how far
corrected values scatter depends on how large they are, which is not what is tested.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, Num

from invdiff.core.measurement.parity import Measure, imbalance, shares
from invdiff.core.uncertainty.sampler_paths import Mixes, Paths, fitted, paths_of, spread
from invdiff.core.uncertainty.test_inversion import Draws, Inversion, redraw

Tables = tuple[Num[np.ndarray, "..."], Num[np.ndarray, "..."]]
Scatter = Callable[[Float[np.ndarray, "draw prompt"]], Draws]
# Shares of the largest value at which the scatter is simulated, and with how many tables. A rough
# one will do: pictures and the samplers that they are compared with are measured in the same.
SCATTER_AT = np.linspace(0, 1, 13)
SCATTER_TABLES = 100


def mean_measure(
    counts: Int[np.ndarray, "prompt klass"], measure: Measure, resamples: int, seed: int
) -> Inversion:
    """Is the mean measure of these prompts, all with images, a given value?"""
    paths = paths_of(counts, measure)
    upward = np.ones(len(counts))

    def simulate(value: float) -> Draws:
        values = spread(paths.observed, paths.totals, paths.largest, upward, value)
        drawn = redraw(paths.at(values), paths.totals, resamples, seed)
        return paths.corrected(drawn).mean(-1)

    observed = float(paths.corrected(counts).mean())
    return Inversion(observed, simulate, 0.0, float(paths.largest.mean()), bounded=True)


def paired_change(
    joint: Int[np.ndarray, "prompt before after"], resamples: int, seed: int
) -> Inversion:
    """Is Bias before less Bias after a given value, if pairs keep their odds ratios?"""
    flat, totals = joint.reshape(len(joint), -1), joint.sum((1, 2))
    # Half an image, spread over the cells: a pair that was not seen is possible.
    start = shares(flat + 0.5 / flat.shape[1]).reshape(joint.shape)

    def tables(before: Mixes, after: Mixes) -> Tables:
        cells = fitted(start, before, after).reshape(flat.shape)
        pairs = redraw(cells, totals, resamples, seed).reshape(resamples, *joint.shape)
        return pairs.sum(-1), pairs.sum(-2)

    return _change(joint.sum(2), joint.sum(1), tables, resamples, seed)


def change(
    before: Int[np.ndarray, "prompt klass"],
    after: Int[np.ndarray, "prompt klass"],
    resamples: int,
    seed: int,
) -> Inversion:
    """:func:`paired_change` of two sets that were drawn independently."""

    def tables(one: Mixes, other: Mixes) -> Tables:
        return (
            redraw(one, before.sum(-1), resamples, seed),
            redraw(other, after.sum(-1), resamples, seed + 1),
        )

    return _change(before, after, tables, resamples, seed)


def _change(
    before: Int[np.ndarray, "prompt klass"],
    after: Int[np.ndarray, "prompt klass"],
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
