"""Samplers of known Bias, and how often their intervals hold it.

It is asked whether the test behind an interval accepts the truth: that is much faster than finding
the ends, and the same while the accepted values are one interval. Every run has seeds of its own.

``python -m tests.core.simulated 1000`` prints the tables; what is in them:
docs/concepts/what-the-numbers-mean.md.
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np

from invdiff.core.measurement import parity
from invdiff.core.uncertainty import classifier_error, hypotheses

SHARES = {
    "even": [0.5] * 4,
    "shares of 0.55": [0.55] * 4,
    "shares of 0.9, 0.1, 0.5, 0.8": [0.9, 0.1, 0.5, 0.8],
    "six prompts near 0 and 1": [0.01, 0.03, 0.98, 0.99, 0.95, 0.02],
    "one prompt, share of 0.7": [0.7],
    "one prompt, share of 0.98": [0.98],
}
CHANGES = {
    "mended": ([0.96, 0.12, 0.49, 0.8], [0.58, 0.4, 0.5, 0.55]),
    "unchanged": ([0.96, 0.12, 0.49, 0.8], [0.96, 0.12, 0.49, 0.8]),
    "near 0 and 1 to less": ([0.99, 0.02, 0.97, 0.99], [0.9, 0.1, 0.8, 0.95]),
    "near 0 and 1 to even": ([0.99, 0.02, 0.97, 0.99], [0.5] * 4),
    "even to even": ([0.5] * 4, [0.5] * 4),
    "0.6 to 0.6": ([0.6] * 4, [0.6] * 4),
    "0.6 to 0.55": ([0.6] * 4, [0.55] * 4),
}
IMAGES = (10, 20, 100, 400)
# Fewer than a report takes: seeds differ from run to run, so that their errors average out.
RESAMPLES = 500


def two(share):
    """Shares of both classes from those of the first."""
    return np.stack([share, 1 - np.asarray(share)], axis=1)


def joined(first, second, association=0.5):
    """Cells (prompt, before, after) with these margins and correlation, as far as it can be."""
    first, second = np.asarray(first), np.asarray(second)
    wanted = association * np.sqrt(first * (1 - first) * second * (1 - second))
    both = first * second + np.minimum(wanted, np.minimum(first, second) - first * second)
    cells = [both, first - both, second - both, 1 - first - second + both]
    return np.stack(cells, axis=1)


def accepted(cells, images, runs, truth, test: Callable) -> float:
    """Share of the runs in which ``test(counts, seed)`` accepts the truth."""
    totals = np.full(len(cells), images)
    tables = hypotheses.redraw(cells, totals, runs, seed=5)
    seeds = np.random.default_rng(6).integers(2**31, size=runs).tolist()
    return np.mean([test(t, s).accepts(truth) for t, s in zip(tables, seeds, strict=True)])


def bias_coverage(share, images, runs, resamples=RESAMPLES) -> float:
    """Coverage of the interval of Bias."""
    even = parity.imbalance(2)
    truth = float(parity.bias(two(share)))
    return accepted(
        two(share),
        images,
        runs,
        truth,
        lambda table, seed: hypotheses.mean_measure(table, even, resamples, seed),
    )


def change_coverage(before, after, images, runs, resamples=RESAMPLES) -> float:
    """Coverage of the interval of the reduction, from pairs of correlation 0.5."""
    truth = float(parity.bias(two(before)) - parity.bias(two(after)))
    return accepted(
        joined(before, after),
        images,
        runs,
        truth,
        lambda table, seed: hypotheses.paired_change(table.reshape(-1, 2, 2), resamples, seed),
    )


def unpaired_coverage(before, after, images, runs, resamples=RESAMPLES) -> float:
    """Coverage of the interval of the difference of two independent sets."""
    truth = float(parity.bias(two(before)) - parity.bias(two(after)))
    both = np.concatenate([two(before), two(after)])
    prompts = len(before)
    return accepted(
        both,
        images,
        runs,
        truth,
        lambda table, seed: hypotheses.change(table[:prompts], table[prompts:], resamples, seed),
    )


def corrected_coverage(share, images, runs, right=0.85, held_out=200, resamples=RESAMPLES):
    """With a classifier that is right this often: of the intervals of each prompt's corrected
    share and of the corrected Bias, and the mean error of raw and corrected shares.

    ``held_out`` pictures of each class measured the confusion matrix, anew in every run.
    """
    random, rates = np.random.default_rng(3), np.array([[right, 1 - right], [1 - right, right]])
    truth, totals = two(share), np.full(len(share), images)
    bias_of, within, errors = float(parity.bias(truth)), [], []
    for counts in hypotheses.redraw(truth @ rates, totals, runs, seed=5):
        confusion = random.multinomial(held_out, rates)
        seed = int(random.integers(2**31))
        low, high = classifier_error.share_intervals(counts, confusion, resamples, seed)
        tested = classifier_error.bias_hypothesis(counts, confusion, resamples, seed)
        inside = ((low <= truth) & (truth <= high))[:, 0]
        within.append([*inside, tested.accepts(bias_of)])
        raw = parity.shares(counts)
        errors.append([raw - truth, classifier_error.corrected_shares(raw, confusion) - truth])
    inside, raw_and_corrected = np.mean(within, axis=0), np.mean(errors, axis=0)[:, :, 0]
    return inside[:-1], inside[-1], raw_and_corrected


def table(runs: int) -> Iterator[str]:
    """The rows of the table, in percent."""
    yield f"| sampler | {' | '.join(map(str, IMAGES))} |"
    for name, share in SHARES.items():
        cells = [bias_coverage(share, images, runs) for images in IMAGES]
        yield f"| Bias, {name} | {' | '.join(f'{100 * c:.1f}' for c in cells)} |"
    for name, pair in CHANGES.items():
        for kind, coverage in (("paired", change_coverage), ("unpaired", unpaired_coverage)):
            cells = [coverage(*pair, images, runs) for images in IMAGES]
            yield f"| {kind} change, {name} | {' | '.join(f'{100 * c:.1f}' for c in cells)} |"

    for name in ("shares of 0.9, 0.1, 0.5, 0.8", "six prompts near 0 and 1"):
        for images in (100, 400):
            shares, bias, (raw, mended) = corrected_coverage(
                SHARES[name], images, runs, resamples=2000
            )
            cells = [100 * shares.min(), 100 * shares.max(), 100 * bias]
            errors = [100 * abs(raw).max(), 100 * abs(mended).max()]
            yield f"| {name}, {images} | {' | '.join(f'{c:.1f}' for c in (*cells, *errors))} |"


if __name__ == "__main__":
    for line in table(int(sys.argv[1])):
        print(line, flush=True)
