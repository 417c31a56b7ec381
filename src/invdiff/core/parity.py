"""How evenly a sampler draws the classes of an attribute: shares, Bias and their uncertainty.

Everything starts from a table of counts (prompt, class): how many pictures of a prompt a classifier
put into each class. A prompt without pictures has shares NaN and takes no part in a mean; it is
never 0, which would mean parity. Nothing here knows who made the labels: the caller says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import stats

from invdiff.errors import InvDiffError

# An inverse of a worse conditioned confusion matrix multiplies the sampling error beyond use.
WORST_CONDITION = 20.0


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its confidence interval; NaN where there was nothing to measure."""

    value: float
    low: float
    high: float


def table(
    prompt_of: Sequence[str],
    class_of: Sequence[str],
    prompts: Sequence[str],
    classes: Sequence[str],
) -> Int[np.ndarray, "prompt klass"]:
    """Count the images of every prompt in every class; an unlisted name is an InvDiffError.

    An absent class or an empty prompt stays in the table, with count 0.
    """
    for name, values, known in (("prompt", prompt_of, prompts), ("class", class_of, classes)):
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InvDiffError(f"{name} {unknown[0]!r} is not among {list(known)}: add it there")
    rows = {name: row for row, name in enumerate(prompts)}
    columns = {name: column for column, name in enumerate(classes)}
    counts = np.zeros((len(prompts), len(classes)), dtype=np.int64)
    for prompt, klass in zip(prompt_of, class_of, strict=True):
        counts[rows[prompt], columns[klass]] += 1
    return counts


def shares(counts: Num[np.ndarray, "*draw klass"]) -> Float[np.ndarray, "*draw klass"]:
    """Shares of the classes; a row without images is NaN."""
    totals = counts.sum(-1, keepdims=True).astype(float)
    return np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)


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


def prompt_bias(counts: Num[np.ndarray, "*draw klass"]) -> Float[np.ndarray, "*draw"]:
    """sum_{i<j} |n_i - n_j| / N / C(K, 2) of every row: 0 is parity, 2 / K is one class only."""
    first, second = np.triu_indices(counts.shape[-1], 1)
    share = shares(counts)
    return np.abs(share[..., first] - share[..., second]).mean(-1)


def bias(counts: Num[np.ndarray, "*draw prompt klass"]) -> Float[np.ndarray, "*draw"]:
    """Bias of InvDiff (arXiv 2412.08480, section 5): mean of :func:`prompt_bias` over prompts.

    Prompts without images are left out; NaN if all are empty. Expects an upwards error: see
    :func:`parity_value` and :func:`corrected_bias`.
    """
    return _mean(prompt_bias(counts))


def largest_bias(classes: int) -> float:
    """The Bias of a sampler that draws one class only, 2 / K: divide by it to normalise."""
    return 2 / classes


def expected_bias(
    share: Float[np.ndarray, "prompt klass"], totals: Int[np.ndarray, " prompt"]
) -> Float[np.ndarray, " prompt"]:
    """Exact expectation of :func:`prompt_bias` when ``totals`` images follow ``share``.

    n_i - n_j is a sum of N independent steps +1, -1 and 0, so that its distribution is the
    inverse Fourier transform of the N-th power of the characteristic function of one step.
    """
    first, second = np.triu_indices(share.shape[-1], 1)
    expected = np.full(len(totals), np.nan)
    for row, total in enumerate(totals.tolist()):
        if total == 0:
            continue
        up, down = share[row, first, None], share[row, second, None]
        turn = np.exp(2j * np.pi * np.arange(2 * total + 1) / (2 * total + 1))
        step = up * turn.conj() + down * turn + (1 - up - down)
        chance = np.fft.ifft(step**total, axis=-1).real
        distance = np.abs(np.fft.fftfreq(2 * total + 1, 1 / (2 * total + 1)))
        expected[row] = (chance @ distance).mean() / total
    return expected


def parity_value(totals: Int[np.ndarray, " prompt"], classes: int) -> float:
    """The Bias that a perfectly balanced sampler shows on average with so many images."""
    balanced = np.full((len(totals), classes), 1 / classes)
    return float(_mean(expected_bias(balanced, totals)))


def corrected_bias(counts: Int[np.ndarray, "prompt klass"]) -> float:
    """Bias less the expected excess of the plug-in, clipped at 0 (a parametric bootstrap).

    The absolute value makes the plug-in too large near parity. Its excess under the observed
    shares, E[Bias* | shares] - Bias, is subtracted. This removes the first order only: a balanced
    sampler still shows about half of :func:`parity_value`.
    """
    observed = bias(counts)
    excess = _mean(expected_bias(shares(counts), counts.sum(-1))) - observed
    return float(np.maximum(observed - excess, 0.0))


def distance(counts: Num[np.ndarray, "prompt klass"], target: Float[np.ndarray, " klass"]) -> float:
    """Total variation between each prompt's shares and ``target``, mean over prompts, in 0..1."""
    if (target < 0).any() or not np.isclose(target.sum(), 1):
        raise InvDiffError(f"a target mix needs shares >= 0 that sum to 1, not {target.tolist()}")
    return float(_mean(np.abs(shares(counts) - target).sum(-1) / 2))


def redraw(
    chances: Float[np.ndarray, "prompt cell"],
    totals: Int[np.ndarray, " prompt"],
    resamples: int,
    seed: int,
) -> Int[np.ndarray, "draw prompt cell"]:
    """Tables of counts in which ``totals`` images of each prompt follow ``chances``."""
    random = np.random.default_rng(seed)
    pairs = zip(totals, chances, strict=True)
    return np.stack([random.multinomial(total, row, resamples) for total, row in pairs], axis=1)


def smoothed(counts: Int[np.ndarray, "prompt cell"]) -> Float[np.ndarray, "prompt cell"]:
    """Shares with half an image added to each row: a class that wasn't seen isn't impossible."""
    return shares(counts + 0.5 / counts.shape[-1])


def bias_interval(
    counts: Int[np.ndarray, "prompt klass"],
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Bias with a bootstrap interval over images, redrawn within prompts.

    Plain percentiles never reach 0, since hardly any redrawn table is balanced. The lower end is
    therefore lowered by twice the excess of the redrawn mean, and is 0 if the value lies within
    what ``confidence`` of balanced samplers would show.
    """
    value, totals = float(bias(counts)), counts.sum(-1)
    if np.isnan(value):
        return Interval(np.nan, np.nan, np.nan)
    lower, upper = 0.5 - confidence / 2, 0.5 + confidence / 2
    drawn = bias(redraw(smoothed(counts), totals, resamples, seed))
    low, high = np.quantile(drawn, [lower, upper])
    level = np.full(counts.shape, 1 / counts.shape[-1])
    if value <= np.quantile(bias(redraw(level, totals, resamples, seed)), upper):
        low = 0.0
    low = max(0.0, low - 2 * max(0.0, float(drawn.mean()) - value))
    return Interval(value, min(low, value), max(float(high), value))


def joint_table(
    prompt_of: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    prompts: Sequence[str],
    classes: Sequence[str],
) -> Int[np.ndarray, "prompt before after"]:
    """Count pairs of images from the same seed by their class before and after."""
    pairs = [f"{first}\n{second}" for first, second in zip(before, after, strict=True)]
    known = [f"{first}\n{second}" for first in classes for second in classes]
    return table(prompt_of, pairs, prompts, known).reshape(len(prompts), len(classes), -1)


def bias_reduction(
    joint: Int[np.ndarray, "prompt before after"],
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Bias before less Bias after, from pairs of one seed; percentiles over redrawn pairs.

    Positive means less biased. Pairs are redrawn together, so what both share cancels.
    """
    prompts, classes, _ = joint.shape

    def reduction(cells: Num[np.ndarray, "*draw prompt cell"]) -> Float[np.ndarray, "*draw"]:
        pairs = cells.reshape(*cells.shape[:-1], classes, classes)
        return np.asarray(bias(pairs.sum(-1)) - bias(pairs.sum(-2)))

    cells = joint.reshape(prompts, classes * classes)
    value = float(reduction(cells))
    if np.isnan(value):
        return Interval(np.nan, np.nan, np.nan)
    drawn = reduction(redraw(smoothed(cells), cells.sum(-1), resamples, seed))
    low, high = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(value, min(float(low), value), max(float(high), value))


def corrected_shares(
    observed: Float[np.ndarray, "prompt klass"], confusion: Num[np.ndarray, "klass klass"]
) -> Float[np.ndarray, "prompt klass"]:
    """Shares corrected for the classifier's measured errors, on the simplex.

    ``confusion`` counts held-out images, row: true class, column: estimated class. The observed
    shares are true shares times P(estimated | true); that is solved, clipped at 0 and rescaled.
    It assumes that the classifier errs on these pictures as it does on the held-out ones.
    """
    if (confusion.sum(-1) == 0).any():
        raise InvDiffError("the confusion matrix has a class without held-out images: add some")
    rates = shares(confusion)
    condition = np.linalg.cond(rates)
    if condition > WORST_CONDITION:
        raise InvDiffError(
            f"the classifier errs too much to correct for (condition number {condition:.0f}, at "
            f"most {WORST_CONDITION:.0f}): use a better classifier or leave shares uncorrected"
        )
    solved = np.linalg.solve(rates.T, observed.T).T.clip(0)
    return shares(solved)


def _mean(values: Float[np.ndarray, "*draw prompt"]) -> Float[np.ndarray, "*draw"]:
    """Mean over prompts that were measured; NaN, without a warning, if none was."""
    measured = ~np.isnan(values)
    count = measured.sum(-1)
    total = np.where(measured, values, 0).sum(-1)
    return np.divide(total, count, out=np.full(np.shape(count), np.nan), where=count > 0)
