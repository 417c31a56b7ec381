"""Correction for the classifier's errors: closed forms, the simplex, abstentions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invdiff.core.uncertainty import classifier_error
from invdiff.errors import InvDiffError


@given(st.floats(0.6, 1), st.floats(0.6, 1), st.floats(0, 1))
def test_the_classifiers_errors_can_be_undone(female, male, share):
    confusion = np.array([[female, 1 - female], [1 - male, male]]) * 1000
    truth = np.array([[1 - share, share]])
    observed = truth @ (confusion / 1000)
    assert classifier_error.corrected_shares(observed, confusion) == pytest.approx(truth, abs=1e-9)


def test_corrected_shares_stay_on_the_simplex():
    confusion = np.array([[90, 10], [10, 90]])
    found = classifier_error.corrected_shares(np.array([[0.02, 0.98], [np.nan, np.nan]]), confusion)
    assert found[0].tolist() == [0, 1]
    assert np.isnan(found[1]).all()


def test_a_useless_classifier_is_not_corrected_for():
    with pytest.raises(InvDiffError, match="errs too much to correct for"):
        classifier_error.corrected_shares(np.array([[0.4, 0.6]]), np.array([[50, 50], [49, 51]]))
    with pytest.raises(InvDiffError, match="class without held-out images"):
        classifier_error.corrected_shares(np.array([[0.4, 0.6]]), np.array([[50, 50], [0, 0]]))


def test_abstentions_take_part_in_the_correction():
    confusion = np.array([[800, 50, 150], [40, 560, 400]])  # the second class is often unclear
    truth = np.array([[0.3, 0.7]])
    observed = truth @ (confusion / 1000)
    assert classifier_error.corrected_shares(observed, confusion) == pytest.approx(truth)
    decided = observed[:, :2] / observed[:, :2].sum()
    assert abs(decided - truth).max() > 0.04  # leaving them out would be wrong


def test_a_small_held_out_set_widens_the_interval():
    counts = np.array([[300, 700]])
    small, large = np.array([[17, 3], [3, 17]]), np.array([[1700, 300], [300, 1700]])
    widths = [
        np.subtract(*classifier_error.share_intervals(counts, c)[::-1]).max()
        for c in (small, large)
    ]
    assert widths[0] > 2 * widths[1]
    narrow = classifier_error.corrected_bias_interval(counts, large, 300)
    wide = classifier_error.corrected_bias_interval(counts, small, 300)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert narrow.value == pytest.approx(0.4 / 0.7)


@pytest.mark.parametrize("men", [0, 8, 92, 100])
def test_shares_beyond_0_and_1_have_an_interval_that_ends_there(men):
    """With 85 % right, fewer than 15 of 100 are less than the classifier's errors alone make."""
    confusion = np.array([[85, 15], [15, 85]])
    found = classifier_error.corrected_bias_interval(
        np.array([[100 - men, men]] * 3), confusion, 400
    )
    assert found.value == 1
    assert found.high == pytest.approx(1, abs=1e-3)
    assert 0.9 < found.low <= found.high


def test_what_is_tested_is_not_clipped():
    confusion = np.array([[85, 15], [15, 85]])
    tested = classifier_error.bias_hypothesis(np.array([[95, 5]]), confusion, 100, 0)
    assert tested.observed == pytest.approx(0.9 / 0.7)
    assert tested.simulate(1.0).max() > 1


def test_a_prompt_without_images_has_no_interval():
    confusion = np.array([[90, 10], [10, 90]])
    low, high = classifier_error.share_intervals(np.array([[0, 0], [5, 5]]), confusion, 200)
    assert np.isnan(low[0]).all()
    assert (low[1] < high[1]).all()
    assert np.isnan(
        classifier_error.corrected_bias_interval(np.zeros((1, 2), int), confusion).value
    )
