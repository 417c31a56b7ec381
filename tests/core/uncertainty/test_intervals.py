"""Intervals against scipy, closed forms and planted truths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from invdiff.core.measurement import parity
from invdiff.core.measurement.parity import imbalance
from invdiff.core.uncertainty import hypotheses, intervals, sampler_paths

EVEN = imbalance(2)


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_agrees_with_scipy(count, more):
    total = max(count, more)
    low, high = intervals.wilson(np.array([count, 0]), np.array([total, 0]))
    witness = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((witness.low, witness.high), abs=1e-12)
    assert np.isnan(low[1])
    assert np.isnan(high[1])


@pytest.mark.parametrize("males", [[0.5] * 4, [0.9, 0.1, 0.5, 0.8], [0.55] * 4])
def test_the_correction_takes_error_off_on_average(males):
    chances = np.array([[1 - p, p] for p in males])
    truth = float(parity.bias(chances))
    tables = hypotheses.redraw(chances, np.full(4, 100), 300, seed=1)
    plain = parity.bias(tables).mean() - truth
    corrected = np.mean([intervals.corrected(counts, EVEN) for counts in tables]) - truth
    assert plain > 0.001
    assert abs(corrected) < 0.75 * plain


def test_the_corrected_value_expects_the_plug_in():
    counts = np.array([[30, 70], [44, 56]])
    values = [intervals.corrected(row[None], EVEN) for row in counts]
    mixes = np.array([[(1 - v) / 2, (1 + v) / 2] for v in values])
    expected = parity.expected_bias(mixes, counts.sum(1))
    assert expected == pytest.approx(parity.prompt_bias(counts), abs=1e-3)
    assert intervals.corrected(np.array([[50, 50]]), EVEN) == 0


def test_the_interval_of_a_class_never_seen_has_a_width():
    found = intervals.bias_interval(np.array([[0, 400]]))
    assert 0.97 < found.low < 1
    assert found.high == 1


def test_the_interval_reaches_parity_when_a_balanced_sampler_could_have_shown_it():
    totals = np.full(4, 100)
    balanced = hypotheses.redraw(np.full((4, 2), 0.5), totals, 400, seed=9)
    threshold = np.quantile(parity.bias(balanced), [0.85, 0.999])
    for counts in balanced[parity.bias(balanced) < threshold[0]][:5]:
        assert intervals.bias_interval(counts, 400).low == 0
    assert intervals.bias_interval(np.array([[75, 25]] * 4), 400).low > 0.3


def test_three_classes_have_intervals_too():
    counts = np.array([[60, 30, 10], [40, 30, 30]])
    found = intervals.bias_interval(counts, 500)
    assert 0 < found.low < found.value < found.high < parity.largest_bias(3)
    target = parity.off_target(np.array([0.5, 0.3, 0.2]))
    near = intervals.interval(counts, target, 500)
    assert near.value == pytest.approx(parity.distance(counts, target.centre))
    assert near.low < near.value < near.high


def test_the_interval_is_repeatable_and_ignores_empty_prompts():
    counts = np.array([[40, 360], [350, 50], [200, 200], [80, 320]])
    first = intervals.bias_interval(counts, 500)
    assert first == intervals.bias_interval(np.vstack([counts, [[0, 0]]]), 500)
    assert first != intervals.bias_interval(counts, 500, seed=5)
    assert first.low < first.value < first.high


def test_nothing_seen_is_not_defined():
    nothing = np.zeros((2, 2), int)
    for found in (
        intervals.bias_interval(nothing),
        intervals.bias_reduction(nothing.reshape(1, 2, 2)),
        intervals.bias_difference(nothing, nothing),
        intervals.over_prompts(nothing, EVEN),
    ):
        assert np.isnan([found.value, found.low, found.high]).all()
    assert np.isnan(intervals.corrected(nothing, EVEN))
    one = intervals.over_prompts(np.array([[9, 1]]), EVEN)
    assert one.value == pytest.approx(0.8)
    assert np.isnan(one.low)


def test_a_single_image_says_nothing():
    found = intervals.bias_interval(np.array([[0, 1]]), 200)
    assert (found.low, found.high) == (0, 1)


def test_over_prompts_is_students_interval_far_from_parity():
    counts = np.array([[900, 100], [850, 150], [950, 50], [100, 900]])
    found = intervals.over_prompts(counts, EVEN)
    values = np.array([0.8, 0.7, 0.9, 0.8])
    witness = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(witness, abs=2e-3)


def test_the_paired_reduction_uses_the_pairs():
    prompt = ["hat"] * 200
    before = ["m"] * 180 + ["f"] * 20
    after = ["m"] * 100 + ["f"] * 100
    joint = parity.joint_table(prompt, before, after, ["hat"], ["f", "m"])
    assert joint[0].tolist() == [[20, 0], [80, 100]]
    found = intervals.bias_reduction(joint, 500)
    assert found.value == pytest.approx(0.8)
    assert found.low < 0.8 < found.high
    same = parity.joint_table(prompt, before, before, ["hat"], ["f", "m"])
    unchanged = intervals.bias_reduction(same, 500)
    assert unchanged.value == 0
    assert unchanged.low < 0 < unchanged.high
    loose = intervals.bias_reduction(np.array([[[2, 18], [18, 162]]]), 500)
    assert unchanged.high - unchanged.low < 0.5 * (loose.high - loose.low)


def test_sets_without_common_seeds_have_a_wider_interval():
    joint = np.array([[[40, 5], [15, 140]]])
    paired = intervals.bias_reduction(joint, 500)
    loose = intervals.bias_difference(joint.sum(2), joint.sum(1), 500)
    assert loose.value == pytest.approx(-paired.value)
    assert loose.high - loose.low > 1.3 * (paired.high - paired.low)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_fitted_tables_have_the_margins_and_odds_they_should(first, second):
    start = np.array([[[0.4, 0.1], [0.2, 0.3]]])
    before, after = np.array([[first, 1 - first]]), np.array([[second, 1 - second]])
    cells = sampler_paths.fitted(start, before, after)
    assert cells.sum(2) == pytest.approx(before, abs=2e-3)
    assert cells.sum(1) == pytest.approx(after, abs=2e-3)
    (a, b), (c, d) = cells[0]
    assert a * d / (b * c) == pytest.approx(6)
