"""Samplers of known Bias, and how often an interval holds it. Shared by the short and long test."""

import numpy as np

from invdiff.core import intervals, misread, parity

EVEN, SPREAD = np.full(4, 0.5), np.array([0.9, 0.1, 0.5, 0.8])
NEAR, EDGES = np.full(4, 0.55), np.array([0.01, 0.03, 0.98, 0.99, 0.95, 0.02])
SKEWED, MENDED = np.array([0.96, 0.12, 0.49, 0.8]), np.array([0.58, 0.4, 0.5, 0.55])
EXTREME, LESS = np.array([0.99, 0.02, 0.97, 0.99]), np.array([0.9, 0.1, 0.8, 0.95])
RESAMPLES = 300
SHARES = {"even": EVEN, "0.55": NEAR, "spread": SPREAD, "near 0 and 1": EDGES}
CHANGES = {
    "mended": (SKEWED, MENDED),
    "unchanged": (SKEWED, SKEWED),
    "edge to less": (EXTREME, LESS),
    "edge to even": (EXTREME, EVEN),
}


def two(share):
    return np.stack([share, 1 - share], axis=1)


def joined(first, second, association):
    """Cells (prompt, before, after) with these margins and correlation, as far as it can be."""
    wanted = association * np.sqrt(first * (1 - first) * second * (1 - second))
    both = first * second + np.minimum(wanted, np.minimum(first, second) - first * second)
    cells = [both, first - both, second - both, 1 - first - second + both]
    return np.stack(cells, axis=1).reshape(-1, 2, 2)


def holds(found, truth):
    return found.low <= truth <= found.high


def bias_coverage(share, images, runs):
    chances = two(share)
    truth = float(parity.bias(chances))
    tables = intervals.redraw(chances, np.full(len(share), images), runs, seed=5)
    found = [intervals.bias_interval(counts, RESAMPLES) for counts in tables]
    return np.mean([holds(each, truth) for each in found])


def change_coverage(before, after, images, runs, association=0.5):
    cells = joined(before, after, association)
    truth = float(parity.bias(two(before)) - parity.bias(two(after)))
    flat = cells.reshape(len(before), 4)
    tables = intervals.redraw(flat, np.full(len(before), images), runs, seed=5)
    found = [intervals.bias_reduction(t.reshape(-1, 2, 2), RESAMPLES) for t in tables]
    return np.mean([holds(each, truth) for each in found])


def corrected_coverage(share, images, runs, right=0.85, held_out=200):
    """Coverage of corrected shares and of corrected Bias; mean error of raw and corrected."""
    random, rates = np.random.default_rng(3), np.array([[right, 1 - right], [1 - right, right]])
    truth, totals = two(share), np.full(len(share), images)
    inside, bias, raw, mended = [], [], [], []
    for run in range(runs):
        confusion = np.stack([random.multinomial(held_out, row) for row in rates])
        counts = intervals.redraw(truth @ rates, totals, 1, run)[0]
        low, high = misread.share_intervals(counts, confusion, RESAMPLES)
        inside.append(((low <= truth) & (truth <= high))[:, 0].mean())
        found = misread.corrected_bias_interval(counts, confusion, RESAMPLES)
        bias.append(holds(found, float(parity.bias(truth))))
        raw.append(parity.shares(counts)[:, 0] - share)
        mended.append(misread.corrected_shares(parity.shares(counts), confusion)[:, 0] - share)
    return np.mean(inside), np.mean(bias), np.mean(raw, axis=0), np.mean(mended, axis=0)
