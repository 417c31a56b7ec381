"""Shares corrected for the errors of the classifier that estimated them.

The confusion matrix counts held-out pictures, row: true class, column: estimated class. A last
column more than there are rows counts those that the classifier abstained from; abstentions then
take part in the correction, since classes differ in how often they are unclear. All of this
assumes that the classifier errs on the pictures at hand as it does on the held-out ones.
"""

import numpy as np
from jaxtyping import Float, Int, Num

from invdiff.core.measurement.parity import bias, imbalance, shares
from invdiff.core.uncertainty.hypotheses import Draws, Inversion, redraw
from invdiff.core.uncertainty.intervals import NOTHING, Interval, seen
from invdiff.core.uncertainty.sampler_paths import paths_through, spread
from invdiff.errors import InvDiffError

# An inverse of a worse conditioned confusion matrix multiplies the sampling error beyond use.
WORST_CONDITION = 20.0
# A redrawn class that was never recognised has no inverse.
SLIVER = 1e-6

Estimates = Int[np.ndarray, "prompt estimate"]
Confusion = Int[np.ndarray, "klass estimate"]
Ends = Float[np.ndarray, "prompt klass"]


def corrected_shares(
    observed: Float[np.ndarray, "prompt estimate"], confusion: Num[np.ndarray, "klass estimate"]
) -> Float[np.ndarray, "prompt klass"]:
    """Shares of the true classes, on the simplex (Rogan and Gladen 1978 for two classes).

    The observed shares are true shares times P(estimate | true); that is solved (least squares if
    there are abstentions), clipped at 0 and rescaled.

    Raises:
        InvDiffError: a class without held-out images, or a classifier that errs too much.
    """
    return shares(_solved(observed, rates_of(confusion)).clip(0))


def rates_of(confusion: Num[np.ndarray, "klass estimate"]) -> Float[np.ndarray, "klass estimate"]:
    """P(estimate | true class); InvDiffError when they cannot be used to correct with."""
    if (confusion.sum(-1) == 0).any():
        raise InvDiffError("the confusion matrix has a class without held-out images: add some")
    rates = shares(confusion)
    condition = np.linalg.cond(rates)
    if condition > WORST_CONDITION:
        raise InvDiffError(
            f"the classifier errs too much to correct for (condition number {condition:.0f}, at "
            f"most {WORST_CONDITION:.0f}): use a better classifier or leave shares uncorrected"
        )
    return rates


def share_intervals(
    counts: Estimates,
    confusion: Confusion,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Ends, Ends]:
    """Ends of the intervals of :func:`corrected_shares`; NaN for a prompt without images.

    They hold both errors: few pictures and few held-out ones. Shares and rates are drawn from
    their distributions under Jeffreys' prior, the correction is solved for each draw, and the ends
    are clipped to [0, 1] after the quantiles were taken, not before.
    """
    rates_of(confusion)
    random = np.random.default_rng(seed)
    lower, upper = 0.5 - confidence / 2, 0.5 + confidence / 2
    rates = np.stack([random.dirichlet(row + 0.5, resamples) for row in confusion], axis=1)
    low = np.full((len(counts), len(confusion)), np.nan)
    high = low.copy()
    for prompt in np.flatnonzero(counts.sum(-1)):
        observed = random.dirichlet(counts[prompt] + 0.5, resamples)
        solved = _solved(observed[:, None], rates)[:, 0]
        low[prompt], high[prompt] = np.quantile(solved, [lower, upper], axis=0).clip(0, 1)
    return low, high


def corrected_bias_interval(
    counts: Estimates,
    confusion: Confusion,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Bias of the corrected shares, with an interval that holds both errors.

    As :func:`intervals.interval`, but what is simulated goes through the classifier,
    and the classifier through its held-out set, before the correction is done. ``value`` is that of
    :func:`corrected_shares`; the interval is tested on shares that are not clipped to 0..1.
    """
    counts = seen(counts)
    if not len(counts):
        return NOTHING
    value = float(bias(corrected_shares(shares(counts), confusion)))
    tested = bias_hypothesis(counts, confusion, resamples, seed)
    return Interval(value, *tested.ends(confidence))


def bias_hypothesis(
    counts: Estimates, confusion: Confusion, resamples: int, seed: int
) -> Inversion:
    """Is the Bias of the true shares a given value? Of prompts that all have images.

    The test looks at the Bias of corrected shares as they are solved, below 0 and above 1 too:
    clipped, it would lean inwards by how many prompts are near 0 and 1, which nobody knows.
    """
    rates, held_out = rates_of(confusion), confusion.sum(-1)
    solved = _solved(shares(counts), rates)
    share = shares(solved.clip(0))
    paths = paths_through(share, counts.sum(-1), imbalance(len(confusion)))
    measured = shares(redraw(shares(confusion + 0.5), held_out, resamples, seed + 1) + SLIVER)
    upward, most = np.ones(len(counts)), float(paths.largest.mean())

    def simulate(value: float) -> Draws:
        values = spread(paths.observed, paths.totals, paths.largest, upward, value)
        drawn = shares(redraw(paths.at(values) @ rates, paths.totals, resamples, seed))
        return np.asarray(bias(_solved(drawn, measured)))

    return Inversion(float(bias(solved)), simulate, 0.0, most, bounded=True)


def _solved(
    observed: Float[np.ndarray, "*draw prompt estimate"],
    rates: Float[np.ndarray, "*draw klass estimate"],
) -> Float[np.ndarray, "*draw prompt klass"]:
    """Least-squares solution of observed = true @ rates; exact without abstentions."""
    return observed @ np.linalg.pinv(rates)
