"""Parity figures against closed forms, scipy, exhaustive sums and simulations."""

import time
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from invdiff.core import parity
from invdiff.errors import InvDiffError

TABLES = arrays(
    np.int64, st.tuples(st.integers(1, 4), st.integers(2, 4)), elements=st.integers(0, 50)
)


def by_hand(counts):
    """The paper's formula as it is printed, with loops."""
    prompts = []
    for row in counts.tolist():
        if total := sum(row):
            gaps = [abs(a - b) / total for a, b in combinations(row, 2)]
            prompts.append(sum(gaps) / comb(len(row), 2))
    return sum(prompts) / len(prompts) if prompts else float("nan")


@given(TABLES)
def test_bias_is_the_formula_of_the_paper(counts):
    assert float(parity.bias(counts)) == pytest.approx(by_hand(counts), nan_ok=True)


@given(TABLES, st.randoms())
def test_bias_ignores_the_order_of_classes_and_prompts(counts, random):
    mixed = counts[random.sample(range(len(counts)), len(counts))]
    mixed = mixed[:, random.sample(range(counts.shape[1]), counts.shape[1])]
    assert parity.bias(mixed) == pytest.approx(parity.bias(counts), nan_ok=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_one_class_only_has_the_largest_bias(classes):
    counts = np.zeros((3, classes), int)
    counts[:, 0] = 7
    assert parity.bias(counts) == pytest.approx(parity.largest_bias(classes))
    some = np.random.default_rng(0).multinomial(50, np.ones(classes) / classes, (100, 3))
    assert (parity.bias(some) < parity.largest_bias(classes)).all()
    assert parity.bias(np.full((3, classes), 4)) == 0


def test_an_absent_class_counts_zero_and_an_empty_prompt_is_nan():
    counts = parity.table(["hat"] * 4, ["male"] * 4, ["hat", "plain"], ["female", "male"])
    assert counts.tolist() == [[0, 4], [0, 0]]
    assert parity.shares(counts)[0].tolist() == [0, 1]
    assert np.isnan(parity.shares(counts)[1]).all()
    assert np.isnan(parity.prompt_bias(counts)[1])
    assert parity.bias(counts) == 1  # the empty prompt has no part in the mean
    nothing = np.zeros((2, 2), int)
    assert np.isnan(parity.bias(nothing))
    assert np.isnan(parity.corrected_bias(nothing))
    assert np.isnan(parity.parity_value(nothing.sum(1), 2))
    assert np.isnan(parity.bias_interval(nothing).value)
    assert np.isnan(parity.bias_interval(nothing).low)
    assert np.isnan(parity.bias_reduction(nothing.reshape(1, 2, 2)).high)


def test_an_empty_prompt_changes_no_figure():
    counts = np.array([[90, 10], [40, 60]])
    more = np.vstack([counts, [[0, 0]]])
    assert parity.corrected_bias(more) == parity.corrected_bias(counts)
    assert parity.parity_value(more.sum(1), 2) == parity.parity_value(counts.sum(1), 2)
    assert parity.distance(more, np.array([0.5, 0.5])) == pytest.approx(0.25)
    assert parity.bias_interval(more, 500) == parity.bias_interval(counts, 500)


def test_a_name_outside_the_table_is_refused():
    with pytest.raises(InvDiffError, match="class 'man' is not among"):
        parity.table(["hat"], ["man"], ["hat"], ["female", "male"])
    with pytest.raises(InvDiffError, match="prompt 'cap' is not among"):
        parity.table(["cap"], ["male"], ["hat"], ["female", "male"])


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_agrees_with_scipy(count, more):
    total = max(count, more)
    low, high = parity.wilson(np.array([count, 0]), np.array([total, 0]))
    witness = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((witness.low, witness.high), abs=1e-12)
    assert np.isnan(low[1])
    assert np.isnan(high[1])


def test_expected_bias_agrees_with_the_binomial_sum():
    share, total = 0.73, 37
    males = np.arange(total + 1)
    gaps = abs(2 * males - total) / total
    witness = (stats.binom.pmf(males, total, share) * gaps).sum()
    found = parity.expected_bias(np.array([[1 - share, share]]), np.array([total]))
    assert found[0] == pytest.approx(witness, abs=1e-12)


def test_expected_bias_of_three_classes_agrees_with_a_sum_over_all_tables():
    share, total = np.array([0.5, 0.3, 0.2]), 9
    tables = [(a, b, total - a - b) for a in range(total + 1) for b in range(total + 1 - a)]
    chances = stats.multinomial.pmf(tables, total, share)
    witness = (chances * parity.prompt_bias(np.array(tables))).sum()
    found = parity.expected_bias(share[None], np.array([total]))
    assert found[0] == pytest.approx(witness, abs=1e-12)


def test_parity_value_falls_with_the_root_of_the_count():
    assert parity.parity_value(np.array([400] * 4), 2) == pytest.approx(
        np.sqrt(2 / np.pi / 400), rel=1e-3
    )
    assert parity.parity_value(np.array([1]), 2) == 1


@pytest.mark.parametrize("males", [[0.5] * 4, [0.9, 0.1, 0.5, 0.8], [0.55] * 4])
def test_the_correction_takes_error_off_on_average(males):
    chances = np.array([[1 - p, p] for p in males])
    truth = float(parity.bias(chances))
    tables = parity.redraw(chances, np.full(4, 100), 300, seed=1)
    plain = parity.bias(tables).mean() - truth
    corrected = np.mean([parity.corrected_bias(counts) for counts in tables]) - truth
    assert plain > 0.001
    assert abs(corrected) < 0.75 * plain


@pytest.mark.parametrize(
    ("males", "least"),
    [
        ([0.5] * 4, 0.93),
        ([0.9, 0.1, 0.5, 0.8], 0.91),
        ([0.55] * 4, 0.91),
        ([0.99, 0.02, 0.5, 0.9], 0.89),
    ],
)
def test_the_interval_covers_the_truth_at_parity_and_away_from_it(males, least):
    chances = np.array([[1 - p, p] for p in males])
    truth = float(parity.bias(chances))
    tables = parity.redraw(chances, np.full(4, 400), 250, seed=2)
    found = [parity.bias_interval(counts, 400) for counts in tables]
    assert np.mean([i.low <= truth <= i.high for i in found]) >= least
    assert np.mean([i.high - i.low for i in found]) < 0.13


def test_the_interval_of_a_class_never_seen_has_a_width():
    found = parity.bias_interval(np.array([[0, 400]]))
    assert 0.97 < found.low < 1
    assert found.high == 1


def test_the_interval_is_quick_and_repeatable():
    counts = np.array([[40, 360], [350, 50], [200, 200], [80, 320]])
    start = time.perf_counter()
    first = parity.bias_interval(counts, resamples=2000)
    assert time.perf_counter() - start < 1
    assert first == parity.bias_interval(counts, resamples=2000)
    assert first != parity.bias_interval(counts, resamples=2000, seed=5)
    assert first.low < first.value < first.high


def test_the_paired_reduction_uses_the_pairs():
    prompt = ["hat"] * 200
    before = ["m"] * 180 + ["f"] * 20
    after = ["m"] * 100 + ["f"] * 100
    joint = parity.joint_table(prompt, before, after, ["hat"], ["f", "m"])
    assert joint[0].tolist() == [[20, 0], [80, 100]]
    found = parity.bias_reduction(joint)
    assert found.value == pytest.approx(0.8)
    assert found.low < 0.8 < found.high
    same = parity.joint_table(prompt, before, before, ["hat"], ["f", "m"])
    unchanged = parity.bias_reduction(same)
    assert unchanged.value == 0
    assert unchanged.high - unchanged.low < 0.03
    loose = np.array([[[2, 18], [18, 162]]])  # the same margins, but independent images
    assert parity.bias_reduction(loose).high - parity.bias_reduction(loose).low > 0.05


@given(st.floats(0.6, 1), st.floats(0.6, 1), st.floats(0, 1))
def test_the_classifiers_errors_can_be_undone(female, male, share):
    confusion = np.array([[female, 1 - female], [1 - male, male]]) * 1000
    truth = np.array([[1 - share, share]])
    observed = truth @ (confusion / 1000)
    assert parity.corrected_shares(observed, confusion) == pytest.approx(truth, abs=1e-9)


def test_corrected_shares_stay_on_the_simplex():
    confusion = np.array([[90, 10], [10, 90]])
    found = parity.corrected_shares(np.array([[0.02, 0.98], [np.nan, np.nan]]), confusion)
    assert found[0].tolist() == [0, 1]
    assert np.isnan(found[1]).all()


def test_a_useless_classifier_is_not_corrected_for():
    with pytest.raises(InvDiffError, match="errs too much to correct for"):
        parity.corrected_shares(np.array([[0.4, 0.6]]), np.array([[50, 50], [49, 51]]))
    with pytest.raises(InvDiffError, match="class without held-out images"):
        parity.corrected_shares(np.array([[0.4, 0.6]]), np.array([[50, 50], [0, 0]]))


def test_distance_is_total_variation_from_the_target():
    counts = np.array([[30, 70], [50, 50]])
    assert parity.distance(counts, np.array([0.3, 0.7])) == pytest.approx((0 + 0.2) / 2)
    assert parity.distance(counts, np.array([0.5, 0.5])) == pytest.approx(parity.bias(counts) / 2)
    with pytest.raises(InvDiffError, match="sum to 1"):
        parity.distance(counts, np.array([0.5, 0.6]))
