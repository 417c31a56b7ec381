"""Parity figures against closed forms, scipy, exhaustive sums and simulations."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from invdiff.core.measurement import parity
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
    assert np.isnan(parity.parity_value(nothing.sum(1), 2))


def test_an_empty_prompt_changes_no_figure():
    counts = np.array([[90, 10], [40, 60]])
    more = np.vstack([counts, [[0, 0]]])
    assert parity.parity_value(more.sum(1), 2) == parity.parity_value(counts.sum(1), 2)
    assert parity.distance(more, np.array([0.5, 0.5])) == pytest.approx(0.25)


def test_a_name_outside_the_table_is_refused():
    with pytest.raises(InvDiffError, match="class 'man' is not among"):
        parity.table(["hat"], ["man"], ["hat"], ["female", "male"])
    with pytest.raises(InvDiffError, match="prompt 'cap' is not among"):
        parity.table(["cap"], ["male"], ["hat"], ["female", "male"])


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


def test_distance_is_total_variation_from_the_target():
    counts = np.array([[30, 70], [50, 50]])
    assert parity.distance(counts, np.array([0.3, 0.7])) == pytest.approx((0 + 0.2) / 2)
    assert parity.distance(counts, np.array([0.5, 0.5])) == pytest.approx(parity.bias(counts) / 2)
    with pytest.raises(InvDiffError, match="sum to 1"):
        parity.distance(counts, np.array([0.5, 0.6]))


def test_the_expected_distance_agrees_with_simulation():
    target, share = np.array([0.2, 0.3, 0.5]), np.array([[0.25, 0.25, 0.5], [0.2, 0.3, 0.5]])
    totals = np.array([7, 30])
    drawn = np.random.default_rng(0).multinomial(totals, share, (40000, 2))
    witness = parity.off_target(target).of(drawn).mean(0)
    assert parity.off_target(target).expected(share, totals) == pytest.approx(witness, abs=0.002)


def test_intersections_name_every_attribute():
    assert parity.crossed(["f", "m"], ["old", "young"]) == ["f & old", "m & young"]
    with pytest.raises(ValueError, match="zip"):
        parity.crossed(["f"], [])
