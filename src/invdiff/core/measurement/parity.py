"""How evenly a sampler draws the classes of an attribute: shares, Bias, distance from a target.

Everything starts from a table of counts (prompt, class): how many pictures of a prompt a classifier
put into each class. A prompt without pictures has shares NaN and takes no part in a mean; it is
never 0, which would mean parity. Nothing here knows who made the labels: the caller says so.
Intervals are in :mod:`intervals`, classifier errors in :mod:`classifier_error`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import fft, special, stats

from invdiff.errors import InvDiffError

Values = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Measure:
    """How far the shares of each prompt are from ``centre``; 0 there, larger away from it.

    ``of`` maps counts or shares (..., prompt, class) to a value for each prompt, ``expected`` maps
    shares (prompt, class) and totals to the mean of that value over tables of counts.
    """

    centre: Float[np.ndarray, " klass"]
    of: Callable[[Num[np.ndarray, "*draw prompt klass"]], Values]
    expected: Callable[[Float[np.ndarray, "prompt klass"], Int[np.ndarray, " prompt"]], Values]


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


def prompt_bias(counts: Num[np.ndarray, "*draw klass"]) -> Float[np.ndarray, "*draw"]:
    """sum_{i<j} |n_i - n_j| / N / C(K, 2) of every row: 0 is parity, 2 / K is one class only."""
    first, second = np.triu_indices(counts.shape[-1], 1)
    share = shares(counts)
    return np.abs(share[..., first] - share[..., second]).mean(-1)


def bias(counts: Num[np.ndarray, "*draw prompt klass"]) -> Float[np.ndarray, "*draw"]:
    """Bias of InvDiff (arXiv 2412.08480, section 5): mean of :func:`prompt_bias` over prompts.

    Prompts without images are left out; NaN if all are empty. Too large on average near parity:
    see :func:`parity_value` and :func:`invdiff.core.uncertainty.intervals.corrected`.
    """
    return measured_mean(prompt_bias(counts))


def largest_bias(classes: int) -> float:
    """The Bias of a sampler that draws one class only, 2 / K: divide by it to normalise."""
    return 2 / classes


def expected_bias(
    share: Float[np.ndarray, "prompt klass"], totals: Int[np.ndarray, " prompt"]
) -> Float[np.ndarray, " prompt"]:
    """Exact expectation of :func:`prompt_bias` when ``totals`` images follow ``share``."""
    if share.shape[-1] == 2:
        return _expected_of_two(share[:, 0], totals)
    rows = zip(share, totals.tolist(), strict=True)
    return np.array([_expected_of_many(row, total) for row, total in rows])


def _expected_of_two(
    share: Float[np.ndarray, " prompt"], totals: Int[np.ndarray, " prompt"]
) -> Float[np.ndarray, " prompt"]:
    """Mean of |2 X - N| / N for a binomial X.

    With m = N // 2: 2 E[(2 X - N); X > m] - E[2 X - N], where E[X; X > m] is
    N p P(Bin(N - 1, p) >= m) and the tails are incomplete beta functions.
    """
    share, half = share.clip(0, 1), totals // 2
    size = np.where(totals > 0, totals, np.nan)
    above = special.betainc(half + 1.0, np.maximum(size - half, 1), share)
    before = np.where(half > 0, special.betainc(np.maximum(half, 1), size - half, share), 1.0)
    return 2 * (2 * share * before - above) - (2 * share - 1) + 0 * size


def _expected_of_many(share: Float[np.ndarray, " klass"], total: int) -> float:
    """Mean of :func:`prompt_bias` of ``total`` images, pair by pair of classes.

    n_i - n_j is a sum of N independent steps +1, -1 and 0, so that its distribution is the
    inverse Fourier transform of the N-th power of the characteristic function of one step.
    """
    if total == 0:
        return np.nan
    first, second = np.triu_indices(len(share), 1)
    up, down = share[first, None], share[second, None]
    size = fft.next_fast_len(2 * total + 1)
    turn = np.exp(2j * np.pi * np.arange(size) / size)
    step = up * turn.conj() + down * turn + (1 - up - down)
    chance = fft.ifft(step**total, axis=-1).real
    return float((chance @ np.abs(fft.fftfreq(size, 1 / size))).mean() / total)


def parity_value(totals: Int[np.ndarray, " prompt"], classes: int) -> float:
    """The Bias that a perfectly balanced sampler shows on average with so many images."""
    balanced = np.full((len(totals), classes), 1 / classes)
    return float(measured_mean(expected_bias(balanced, totals)))


def imbalance(classes: int) -> Measure:
    """Bias as a measure: the distance from even shares."""
    return Measure(np.full(classes, 1 / classes), prompt_bias, expected_bias)


def distance(counts: Num[np.ndarray, "prompt klass"], target: Float[np.ndarray, " klass"]) -> float:
    """Total variation between each prompt's shares and ``target``, mean over prompts, in 0..1."""
    return float(measured_mean(off_target(target).of(counts)))


def off_target(target: Float[np.ndarray, " klass"]) -> Measure:
    """Total variation from a target mix as a measure; InvDiffError unless ``target`` is a mix."""
    if (target < 0).any() or not np.isclose(target.sum(), 1):
        raise InvDiffError(f"a target mix needs shares >= 0 that sum to 1, not {target.tolist()}")

    def of(counts: Num[np.ndarray, "*draw klass"]) -> Values:
        return np.abs(shares(counts) - target).sum(-1) / 2

    def expected(
        share: Float[np.ndarray, "prompt klass"], totals: Int[np.ndarray, " prompt"]
    ) -> Values:
        return np.array(
            [
                _expected_distance(row, total, target)
                for row, total in zip(share, totals.tolist(), strict=True)
            ]
        )

    return Measure(target, of, expected)


def _expected_distance(
    share: Float[np.ndarray, " klass"], total: int, target: Float[np.ndarray, " klass"]
) -> float:
    """Mean over multinomial counts of half the summed |count / total - target|."""
    if total == 0:
        return np.nan
    count = np.arange(total + 1)[:, None]
    chance = stats.binom.pmf(count, total, share.clip(0, 1))
    return float((chance * np.abs(count / total - target)).sum() / 2)


def crossed(*attributes: Sequence[str]) -> list[str]:
    """Intersectional classes: ``"female & glasses"`` from one label of each attribute a picture."""
    return [" & ".join(labels) for labels in zip(*attributes, strict=True)]


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


def measured_mean(values: Float[np.ndarray, "*draw prompt"]) -> Float[np.ndarray, "*draw"]:
    """Mean over prompts that were measured; NaN, without a warning, if none was."""
    measured = ~np.isnan(values)
    count = measured.sum(-1)
    total = np.where(measured, values, 0).sum(-1)
    return np.divide(total, count, out=np.full(np.shape(count), np.nan), where=count > 0)
