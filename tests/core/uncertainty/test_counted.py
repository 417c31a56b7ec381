"""What counts say, as records."""

import numpy as np
import pytest
from scipy.stats import binomtest

from invdiff.core.measurement import parity
from invdiff.core.uncertainty import counted, intervals

DRAWING = (400, 0, 0.95)


@pytest.mark.parametrize(("count", "total"), [(0, 7), (3, 20), (20, 20)])
def test_a_share_has_the_interval_of_scipy(count, total):
    found = counted.share_of(count, total)
    known = binomtest(count, total).proportion_ci(method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((known.low, known.high))
    assert (found["value"], found["count"], found["images"]) == (count / total, count, total)


def test_a_share_of_nothing_is_no_number():
    assert np.isnan(counted.share_of(0, 0)["value"])
    assert counted.worst_prompt(np.zeros((2, 2), np.int64), DRAWING) is None


def test_the_worst_prompt_pays_for_its_choice():
    counts = np.array([[20, 20], [0, 0], [31, 9], [24, 16]])
    row, found = counted.worst_prompt(counts, DRAWING)
    assert row == 2
    assert (found["value"], found["images"]) == (parity.prompt_bias(counts)[2], 40)
    alone = intervals.bias_interval(counts[[2]], *DRAWING)
    assert found["low"] < alone.low
    assert found["high"] > alone.high


def test_a_classifier_that_never_errs_changes_no_bias():
    counts = np.array([[30, 10], [12, 28]])
    plain = counted.bias_of(counts, DRAWING)
    undone = counted.bias_undone(counts, np.diag([10**6, 10**6]), DRAWING)
    assert undone["error_corrected"] == pytest.approx(plain["value"])
    assert plain["normalised"] == plain["value"]
    assert (plain["images"], plain["prompts"]) == (80, 2)
