"""What counts say, of pictures that have something or of a table (prompt, class), as records."""

from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float

from invdiff.core.measurement import parity
from invdiff.core.uncertainty import classifier_error, intervals
from invdiff.core.uncertainty.classifier_error import Confusion, Ends, Estimates
from invdiff.core.uncertainty.hypotheses import Counts

UNDONE = ("error_corrected", "error_corrected_low", "error_corrected_high")
"""Keys of a figure without the classifier's errors, and of the ends of its interval."""
Drawn = tuple[int, int, float]
"""How intervals are drawn: resamples, seed and confidence."""


def share_of(count: int, total: int, confidence: float = 0.95) -> dict[str, Any]:
    """A share of ``total`` images with its Wilson interval; NaN where there is nothing."""
    low, high = intervals.wilson(np.array([count]), np.array([total]), confidence)
    value = count / total if total else np.nan
    return {"value": value, "low": low[0], "high": high[0], "count": count, "images": total}


def bias_of(counts: Counts, drawing: Drawn) -> dict[str, Any]:
    """Bias of these prompts with its interval and what to compare it with."""
    images, classes = counts.sum(1), counts.shape[1]
    found = intervals.bias_interval(counts, *drawing)
    return asdict(found) | {
        "normalised": found.value / parity.largest_bias(classes),
        "corrected": intervals.corrected(counts, parity.imbalance(classes)),
        "parity_value": parity.parity_value(images, classes),
        "images": int(images.sum()),
        "prompts": int((images > 0).sum()),
    }


def worst_prompt(counts: Counts, drawing: Drawn) -> tuple[int, dict[str, Any]] | None:
    """The row of the largest Bias with that; None without images.

    The interval allows for the prompt's having been chosen (Bonferroni).
    """
    seen = np.flatnonzero(counts.sum(1))
    if not len(seen):
        return None
    row = int(seen[parity.prompt_bias(counts[seen]).argmax()])
    allowed = 1 - (1 - drawing[2]) / len(seen)
    found = intervals.bias_interval(counts[[row]], *drawing[:2], allowed)
    return row, asdict(found) | {"images": int(counts[row].sum())}


def shares_undone(
    counts: Estimates, confusion: Confusion, drawing: Drawn
) -> tuple[Float[np.ndarray, "prompt klass"], Ends, Ends]:
    """Shares without the classifier's errors, and the ends of their intervals.

    Raises:
        InvDiffError: it errs too much for that, or in a class nobody knows how often.
    """
    share = classifier_error.corrected_shares(parity.shares(counts), confusion)
    return share, *classifier_error.share_intervals(counts, confusion, *drawing)


def bias_undone(counts: Estimates, confusion: Confusion, drawing: Drawn) -> dict[str, Any]:
    """Bias of the corrected shares; its interval holds the errors of the confusion matrix too."""
    found = classifier_error.corrected_bias_interval(counts, confusion, *drawing)
    return dict(zip(UNDONE, asdict(found).values(), strict=True))
