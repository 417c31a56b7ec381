"""More than two groups: memberships, weights, aims and the model of the groups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from invdiff.core.balancing.aims import at_least, corrected_aim, corrected_mix
from invdiff.core.balancing.reweighting import balanced_weights
from invdiff.core.groups.memberships import (
    as_mix,
    hard,
    memberships,
    off_by,
    present,
    shares_of,
    within,
)
from invdiff.core.groups.several_groups import NEVER, MultiGroupModel

SHARES = np.array([3, 2, 1, 1]) / 7


def four(shares=SHARES, count=2100, seed=0, gap=4.0, width=6):
    """Images of one prompt in four groups that lie at the corners of a simplex."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(4), (shares * count).round().astype(int))
    features = random.normal(size=(len(group), width)) + gap * np.eye(4, width)[group]
    return features, group


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=9))
def test_two_groups_are_the_same_as_one_number_or_two_columns(values):
    against = np.array(values)
    both = np.stack([1 - against, against], 1)
    np.testing.assert_array_equal(memberships(against), both)
    np.testing.assert_array_equal(hard(against), against > 0.5)
    prompt = np.full(len(against), "a")
    weights = [balanced_weights(q, prompt, {"a": shares_of(0.3)}) for q in (against, both)]
    np.testing.assert_array_equal(*weights)
    assert as_mix(shares_of(0.3)) == 0.3


def test_the_weighted_shares_of_several_groups_are_the_wanted_ones():
    _, group = four()
    wanted = np.array([0.4, 0.3, 0.2, 0.1])
    weight = balanced_weights(np.eye(4)[group], np.full(len(group), "a"), {"a": wanted})
    np.testing.assert_allclose(np.bincount(group, weight) / weight.sum(), wanted)
    assert weight.mean() == pytest.approx(1)


def test_a_group_that_a_prompt_lacks_leaves_its_share_to_the_others():
    group = np.array([0, 0, 0, 1])
    q = np.eye(3)[group]
    assert present(q).tolist() == [True, True, False]
    weight = balanced_weights(q, np.full(4, "a"), {"a": np.full(3, 1 / 3)})
    np.testing.assert_allclose(np.bincount(group, weight) / 4, [0.5, 0.5])
    assert within([0.5, 0.25, 0.25], present(q)).tolist() == pytest.approx([2 / 3, 1 / 3, 0])


def test_what_shares_are_off_by_adds_up_to_nothing():
    off = off_by(SHARES, np.full(4, 0.25))
    assert off.sum() == pytest.approx(0)
    np.testing.assert_allclose(off, SHARES - 0.25)


@given(st.floats(0.16, 0.84), st.floats(0.01, 0.99), st.floats(0.2, 0.8))
def test_the_aim_of_two_groups_is_the_old_one(aim, seen, wanted):
    scales, shares = [1.0, 2.5], np.array([1 - seen, seen])
    old = corrected_aim(aim, [seen, seen], scales, wanted=wanted)
    assert corrected_mix(aim, [shares, shares], scales, wanted) == old


def test_the_aim_of_several_moves_as_that_of_two_does():
    """With two groups written as shares the step is the same one in log-odds."""
    seen = np.array([0.6, 0.4])
    moved = corrected_mix([0.5, 0.5], [seen], [2.0], [0.5, 0.5])
    assert logit(moved[1]) == pytest.approx(logit(corrected_aim(0.5, [0.4], [2.0])))


def test_the_aim_of_several_groups_moves_against_what_was_seen():
    even = [0.25] * 4
    assert corrected_mix(even, [np.array(even)], [1.0], even) == pytest.approx(even)
    moved = corrected_mix(even, [SHARES], [1.0], even)
    assert sum(moved) == pytest.approx(1)
    assert moved[0] < moved[1] < 0.27 < moved[2] == pytest.approx(moved[3])
    gone = corrected_mix([0.5, 0.5, 0.0], [np.array([0.9, 0.1, 0.0])], [1.0], [0.5, 0.5, 0.0])
    assert gone[2] == 0
    assert gone[1] > 0.5


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=6).filter(lambda v: sum(v) > 0.1))
def test_no_aim_falls_below_its_floor(values):
    shares = np.array(values) / sum(values)
    floor = np.full(len(shares), 0.3 / len(shares))
    lifted = at_least(shares, floor)
    assert lifted.sum() == pytest.approx(1)
    assert (lifted >= floor - 1e-12).all()


def test_the_model_tells_the_groups_and_the_shares_of_other_images():
    features, group = four()
    model = MultiGroupModel.supervised(features, np.eye(4)[group])
    assert (model(features).argmax(1) == group).mean() > 0.95
    np.testing.assert_allclose(model(features).sum(1), 1)
    others = np.array([0.1, 0.2, 0.3, 0.4])
    drawn, _ = four(others, seed=1)
    np.testing.assert_allclose(model.shares(model.log_ratio(drawn)), others, atol=0.03)


def test_of_two_groups_among_several_it_is_the_logistic_model_of_two():
    features, group = four()
    two = group < 2
    model = MultiGroupModel.supervised(features[two], np.eye(4)[group[two]])
    assert model.present.tolist() == [True, True, False, False]
    assert (model.bias[1:] == NEVER).all()
    ratio = model.log_ratio(features[two])[:, 0]
    share = group[two].mean()
    told = expit(ratio + logit(share)) > 0.5
    assert (told == group[two]).mean() > 0.97
    shares = model.shares(model.log_ratio(features[two]))
    np.testing.assert_allclose(shares, [0.6, 0.4, 0, 0], atol=0.02)


def test_groups_can_be_put_into_another_order():
    features, group = four()
    model = MultiGroupModel.supervised(features, np.eye(4)[group])
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(model.ordered(order)(features), model(features)[:, order])
