"""The balanced mixture has the masses it should, and is the gradient of the paper's objective."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit

from invdiff.core.balancing.aims import corrected_aim, first_aim
from invdiff.core.balancing.reweighting import (
    balanced_weights,
    mean_variance,
    mixture_shares,
)
from invdiff.core.groups.memberships import shares_of

GROUPS = st.integers(2, 6)
EVEN = np.array([0.5, 0.5])


@st.composite
def soft_groups(draw):
    """q_1 of the images of two prompts, neither group of either without a member."""
    count = draw(st.integers(4, 30))
    against = draw(arrays(np.float64, count, elements=st.floats(0, 1, width=32)))
    against[:4] = 0.1, 0.8, 0.1, 0.8
    prompt = np.array(["a", "a", "b", "b"] + ["a"] * (count - 4))
    return against, prompt


def masses(weight, against):
    """What each group weighs of a prompt's images, counting q_i(e) p_i over the images.

    For soft groups the masses asked for are those of the *mixture of the groups*: image i is drawn
    from group e with chance q_i(e) / sum q(e).
    """
    return np.array([weight @ (1 - against), weight @ against]) / weight.sum()


@given(soft_groups(), st.floats(0, 1))
def test_weights_are_the_mixture_of_the_groups_in_the_shares_asked_for(groups, share):
    against, prompt = groups
    wanted = np.array([1 - share, share])
    weight = balanced_weights(against, prompt, {"a": wanted, "b": wanted})
    for name in "ab":
        rows = prompt == name
        q = np.stack([1 - against[rows], against[rows]])
        drawn = sum(u * group / group.sum() for u, group in zip(wanted, q, strict=True))
        np.testing.assert_allclose(weight[rows] / weight[rows].sum(), drawn, atol=1e-9)
        assert weight[rows].mean() == pytest.approx(1)
        assert (weight >= 0).all()


@given(st.floats(1, 8))
def test_images_between_the_groups_count_less_with_more_certainty(certainty):
    """The sure ones make up what is asked for; a group of unsure ones alone still has its mass."""
    against = np.array([0.0] * 8 + [0.5, 1.0])
    prompt = np.full(10, "a")
    weight = balanced_weights(against, prompt, {"a": EVEN}, certainty)
    assert weight.mean() == pytest.approx(1)
    assert weight[8] / weight[9] < 0.6
    share = 0.5**certainty
    assert weight[9] == pytest.approx(10 * 0.5 / (1 + share))
    assert weight[8] == pytest.approx(10 * 0.5 * (share / (8 + share) + share / (1 + share)))
    unsure = np.array([0.0, 0.0, 0.004])
    assert balanced_weights(unsure, np.full(3, "a"), {"a": EVEN}, certainty)[2] > 1.4


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 0.99))
def test_hard_groups_weigh_exactly_what_was_asked_for(usual, unusual, share):
    against = np.array([0.0] * usual + [1.0] * unusual)
    prompt = np.full(len(against), "a")
    weight = balanced_weights(against, prompt, {"a": np.array([1 - share, share])})
    assert masses(weight, against) == pytest.approx([1 - share, share])
    assert len(np.unique(weight[:usual])) == 1


def test_prompts_are_balanced_each_on_its_own():
    """Together these prompts are even already: over the whole data nothing would happen."""
    against = np.array([1.0] + [0.0] * 9 + [1.0] * 9 + [0.0])
    prompt = np.repeat(["a", "b"], 10)
    weight = balanced_weights(against, prompt, {"a": EVEN, "b": EVEN})
    for name in "ab":
        rows = prompt == name
        assert masses(weight[rows], against[rows]) == pytest.approx(EVEN)
        assert weight[rows].mean() == pytest.approx(1)
    assert weight.max() == pytest.approx(5)


def test_a_prompt_with_nothing_to_balance_keeps_its_weights():
    against = np.array([0.9, 0.1, 0.9, 0.1, 0.1])
    weight = balanced_weights(against, np.array(["a", "a", "b", "b", "b"]), {"b": EVEN})
    assert weight[:2].tolist() == [1, 1]
    assert weight[2] > weight[3]


def test_an_empty_group_takes_no_weight_and_breaks_nothing():
    weight = balanced_weights(np.zeros(4), np.full(4, "a"), {"a": EVEN})
    assert np.isfinite(weight).all()
    assert len(np.unique(weight)) == 1


@given(st.data(), GROUPS, st.floats(0, 3))
def test_the_mixture_is_the_gradient_of_mean_and_variance(data, groups, variance_weight):
    risks = data.draw(arrays(np.float64, groups, elements=st.floats(-1, 1, width=32)))
    raw = data.draw(arrays(np.float64, groups, elements=st.floats(0.125, 1, width=32)))
    shares = raw / raw.sum()
    leaf = torch.from_numpy(risks).requires_grad_()
    mean_variance(leaf, torch.from_numpy(shares), variance_weight).backward()
    gradient = leaf.grad.numpy()
    found = mixture_shares(risks, shares, variance_weight)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    if (gradient >= 0).all():
        np.testing.assert_allclose(found, gradient, atol=1e-9)
    else:
        assert (found[gradient < 0] == 0).all()


def test_the_objective_is_the_mean_plus_the_population_variance():
    risks = torch.tensor([0.2, 0.4, 0.9])
    shares = torch.tensor([0.5, 0.25, 0.25])
    wanted = 0.425 + 2 * np.var([0.2, 0.4, 0.9])
    assert mean_variance(risks, shares, 2.0).item() == pytest.approx(wanted)
    assert mean_variance(risks, shares, 0.0).item() == pytest.approx(0.425)


@given(GROUPS, st.floats(0, 100), st.floats(-5, 5))
def test_equal_risks_leave_the_mixture_as_it_is(groups, variance_weight, level):
    shares = np.arange(1.0, groups + 1) / np.arange(1, groups + 1).sum()
    found = mixture_shares(np.full(groups, level), shares, variance_weight)
    np.testing.assert_allclose(found, shares, atol=1e-9)


def test_the_worse_group_gets_more():
    found = mixture_shares(np.array([0.1, 0.3]), EVEN, 1.0)
    assert found == pytest.approx([0.4, 0.6])


def test_raw_risks_overshoot_where_one_group_is_harder_and_regrets_do_not():
    """Faces: long hair costs more than short hair, whatever the model has learnt about either.

    At lambda = 30 the raw risks put all training on the harder group, and the samples went from
    one skew to the other (Bias 0.40); their regrets over the base are 0, and nothing moves.
    """
    irreducible = np.array([0.27, 0.31])
    reached = irreducible.copy()  # nothing left to learn for either group
    assert mixture_shares(reached, EVEN, 30.0) == pytest.approx([0, 1])
    assert mixture_shares(reached - irreducible, EVEN, 30.0) == pytest.approx(EVEN)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_aim_moves_against_what_the_guidance_scale_left(scale):
    """Log-odds 1.0 at scale w are 1.0 / w in the model; three quarters of that come off the aim."""
    seen, scales = expit(1.0), [scale]
    assert logit(corrected_aim(0.5, [seen], scales)) == pytest.approx(-0.75 / scale)
    assert corrected_aim(0.5, [0.5], scales) == pytest.approx(0.5)
    assert corrected_aim(0.4, [1 - seen], scales) > 0.4
    assert 0.15 <= corrected_aim(0.2, [1.0], scales) <= corrected_aim(0.8, [0.0], scales) <= 0.85


@pytest.mark.parametrize("wanted", [0.3, 0.5, [0.5, 0.3, 0.2], [1 / 3] * 3, [0.6, 0.4, 0.0]])
def test_the_first_aim_shows_the_wanted_mix_at_the_mean_scale(wanted):
    """Ratios of shares to the power of the scale are those wanted, and none arise from nothing."""
    aim = shares_of(first_aim(wanted, [1.0, 3.0]))
    shown = aim**2 / (aim**2).sum()
    assert shown == pytest.approx(shares_of(wanted))
    assert shares_of(first_aim(wanted, [1.0])) == pytest.approx(shares_of(wanted))


def test_the_aim_follows_the_share_that_is_wanted():
    assert corrected_aim(0.3, [0.3, 0.3], [1.0, 2.5], wanted=0.3) == pytest.approx(0.3)
    assert (
        corrected_aim(0.3, [0.5], [1.0], wanted=0.3)
        < 0.3
        < corrected_aim(0.3, [0.2], [1.0], wanted=0.3)
    )


def test_several_guidance_scales_are_weighed_by_what_they_tell():
    """One imbalance seen at every scale counts once; those that disagree meet by weight."""
    seen = [expit(0.2 * 1.0), expit(0.2 * 3.0)]
    assert logit(corrected_aim(0.5, seen, [1.0, 3.0])) == pytest.approx(-0.75 * 0.2)
    apart = [expit(0.4), expit(-0.4)]
    assert corrected_aim(0.5, apart, [1.0, 3.0]) == pytest.approx(0.5)
