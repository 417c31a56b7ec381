"""Weights, the bound and Bias on arrays, without a run."""

import numpy as np
import pytest
import torch

import invdiff
from invdiff.app.arrays import balance, skew
from invdiff.core.balancing import reweighting
from invdiff.core.balancing.reweighting import mean_variance
from invdiff.core.measurement.parity import imbalance, parity_value
from invdiff.core.uncertainty.intervals import bias_interval, corrected
from invdiff.errors import ArgumentError


def test_weights_give_the_groups_the_wanted_shares():
    random = np.random.default_rng(0)
    group = random.choice(3, size=300, p=[0.6, 0.3, 0.1])
    q = np.eye(3)[group]
    prompts = ["a"] * 150 + ["b"] * 150
    weights = invdiff.balanced_weights(q, prompts, target=(0.5, 0.3, 0.2))
    for rows in (slice(0, 150), slice(150, 300)):
        assert weights[rows].mean() == pytest.approx(1)
        assert weights[rows] @ q[rows] / 150 == pytest.approx([0.5, 0.3, 0.2])
    one = invdiff.balanced_weights(q[:, 2], ["a"] * 300, certainty=1)
    assert one @ q[:, 2] / 300 == pytest.approx(0.5)


def test_weights_are_those_of_a_run():
    q, prompts = np.random.default_rng(1).beta(0.5, 2, 40), np.repeat(["a", "b"], 20)
    for certainty in (4.0, 1.0):
        even = dict.fromkeys("ab", np.array([0.5, 0.5]))
        wanted = reweighting.balanced_weights(q, prompts, even, certainty)
        found = invdiff.balanced_weights(q, prompts, certainty=certainty)
        np.testing.assert_allclose(found, wanted)
    assert not np.allclose(found, invdiff.balanced_weights(q, prompts))  # a run's is 4


def test_only_the_named_prompts_are_balanced():
    q = [0.0, 0.0, 0.0, 1.0] * 2
    prompts = ["a"] * 4 + ["b"] * 4
    weights = invdiff.balanced_weights(q, prompts, only=["b"])
    assert weights.tolist() == pytest.approx([1] * 4 + [2 / 3] * 3 + [2])
    assert invdiff.balanced_weights(q, prompts, only=()).tolist() == [1] * 8


def test_what_a_prompt_lacks_of_several_groups_is_left_to_the_others():
    q = np.eye(3)[[0, 0, 0, 1]]
    weights = invdiff.balanced_weights(q, ["a"] * 4, target=(0.4, 0.4, 0.2))
    assert weights @ q / 4 == pytest.approx([0.5, 0.5, 0.0])


@pytest.mark.parametrize(
    ("member", "prompts", "more", "argument", "told"),
    [
        ([0.0, 0.0], ["a", "a"], {}, "memberships", "'a'.*group 0 alone"),
        ([1.0, 1.0], ["a", "a"], {}, "memberships", "group 1 alone"),
        ([0.0, 1.0], ["a"], {}, "memberships", "1 rows"),
        ([0.0, np.nan], ["a", "a"], {}, "memberships", "finite"),
        ([0.0, 1.5], ["a", "a"], {}, "memberships", r"0\.\.1.*in row 1"),
        ([[0.5, 0.4]], ["a"], {}, "memberships", "add up to 1.*in row 0"),
        ([[[0.5]]], ["a"], {}, "memberships", "axes"),
        ([0.0, 1.0], ["a", "a"], {"target": (0.5, 0.6)}, "target", "add up to 1"),
        ([0.0, 1.0], ["a", "a"], {"target": (0.2, 0.3, 0.5)}, "target", "2 shares"),
        ([0.0, 1.0], ["a", "a"], {"only": ["b"]}, "only", "not 'b'"),
        ([0.0, 1.0], ["a", "a"], {"certainty": 0.5}, "certainty", "1 takes"),
    ],
)
def test_mistakes_about_memberships_are_named(member, prompts, more, argument, told):
    with pytest.raises(ArgumentError, match=told) as caught:
        balance.balanced_weights(member, prompts, **more)
    assert caught.value.argument == argument


def test_the_certificate_holds_for_every_mixture_and_is_the_objective_plus_a_constant():
    risks = torch.tensor([0.4, 0.1, 0.7, 0.2])
    found = invdiff.certificate(risks, variance_weight=0.5)
    mixtures = np.random.default_rng(0).dirichlet(np.ones(4), 2000)
    assert (mixtures @ risks.numpy() <= found.worst + 1e-6).all()
    assert found.worst_mixture @ risks.numpy() == pytest.approx(found.worst) == 0.7
    assert found.worst <= found.bound <= found.bound_at_weight
    objective = mean_variance(risks, torch.full((4,), 0.25), 0.5)
    assert found.bound_at_weight == pytest.approx(float(objective) + 3 / 2)
    assert "worst-case loss bound" in repr(found)
    assert "variance weight 0.5" in repr(found)


@pytest.mark.parametrize(
    ("risks", "weight", "argument", "told"),
    [
        ([0.3], None, "risks", "two groups or more, not 1"),
        ([0.3, np.nan], None, "risks", "finite, not 1 of 2"),
        ([[0.3, 0.2]], None, "risks", r"axes \[group\]"),
        ([], None, "risks", "axes"),
        ([0.3, 0.2], 0.0, "variance_weight", "between"),
    ],
)
def test_mistakes_about_risks_are_named(risks, weight, argument, told):
    with pytest.raises(ArgumentError, match=told) as caught:
        balance.certificate(risks, variance_weight=weight)
    assert caught.value.argument == argument


COUNTS = np.array([[90, 10], [45, 55]])


def test_bias_is_that_of_the_report_and_labels_count_as_counts_do():
    found = invdiff.bias(counts=torch.from_numpy(COUNTS), resamples=300, seed=4)
    wanted = bias_interval(COUNTS, 300, 4)
    assert (found.value, found.low, found.high) == (wanted.value, wanted.low, wanted.high)
    assert found.corrected == corrected(COUNTS, imbalance(2))
    assert found.parity_value == parity_value(np.array([100, 100]), 2)
    assert found.pictures == 200
    labels = ["m"] * 90 + ["n"] * 10 + ["m"] * 45 + ["n"] * 55
    other = invdiff.bias(labels, ["p"] * 100 + ["q"] * 100, resamples=300, seed=4)
    np.testing.assert_array_equal(other.counts, COUNTS)
    assert (other.prompts, other.classes) == (("p", "q"), ("m", "n"))
    assert (other.value, other.low, other.high) == (found.value, found.low, found.high)
    np.testing.assert_allclose(other.shares, [[0.9, 0.1], [0.45, 0.55]])


def test_a_class_that_nobody_shows_counts_if_it_is_named():
    found = invdiff.bias(["m"] * 20, ["p"] * 20, classes=["m", "n"], resamples=100)
    assert found.value == found.largest == 1
    assert found.counts.tolist() == [[20, 0]]


@pytest.mark.parametrize(
    ("given", "argument", "told"),
    [
        ({}, "labels", "both or neither"),
        ({"labels": ["m"], "prompts": ["p"], "counts": COUNTS}, "labels", "both or neither"),
        ({"labels": ["m", "m"], "prompts": ["p", "p"]}, "classes", "two or more"),
        ({"labels": ["m", "n"], "prompts": ["p"]}, "labels", "1 rows"),
        ({"labels": [1, 2], "prompts": ["p", "p"]}, "labels", "texts"),
        ({"labels": ["m", "n"]}, "prompts", "empty"),
        (
            {"labels": ["m", "o"], "prompts": ["p", "p"], "classes": ["m", "n"]},
            "labels",
            "not 'o'",
        ),
        ({"counts": COUNTS / 100}, "counts", "whole numbers"),
        ({"counts": -COUNTS}, "counts", "-90"),
        ({"counts": 0 * COUNTS}, "counts", "not all 0"),
        ({"counts": COUNTS[0]}, "counts", "axes"),
        ({"counts": COUNTS * np.nan}, "counts", "finite"),
        ({"counts": COUNTS[:, :1]}, "classes", "two or more"),
        ({"counts": COUNTS, "prompts": ["p"]}, "prompts", "2 rows"),
        ({"counts": COUNTS, "classes": ["m"]}, "classes", "2, as counts has"),
        ({"counts": COUNTS, "confidence": 95}, "confidence", "between 0 and 1"),
        ({"counts": COUNTS, "resamples": 3}, "resamples", "between 99"),
    ],
)
def test_mistakes_about_labels_are_named(given, argument, told):
    with pytest.raises(ArgumentError, match=told) as caught:
        skew.bias(**given)
    assert caught.value.argument == argument
