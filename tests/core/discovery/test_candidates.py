"""Candidate partitions: planted truth, the exact optimum, and nothing where nothing is."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from invdiff.core.discovery import candidates as cand
from invdiff.core.groups.features import LogisticDiscriminant, Projection, centre_within_prompts
from tests.core.planted import agree, plant

RULES = pytest.mark.parametrize("rule", list(cand.SPLITS.values()), ids=list(cand.SPLITS))


def two_hills(share, apart, count=500, seed=0):
    random = np.random.default_rng(seed)
    high = random.permutation(count) < round(share * count)
    return random.normal(size=count) + apart * high, high


@RULES
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_gap_in_the_score_is_found(rule, share):
    score, high = two_hills(share, 8.0)
    assert (rule(score, 0.02) == high).mean() > 0.99


@RULES
@given(st.floats(0.01, 1000), st.floats(-100, 100))
def test_a_split_does_not_depend_on_the_unit_of_the_score(rule, unit, origin):
    score, _ = two_hills(0.2, 6.0, count=80)
    np.testing.assert_array_equal(rule(score * unit + origin, 0.02), rule(score, 0.02))


def test_one_hill_has_no_valley():
    score = np.sort(np.random.default_rng(0).normal(size=200))
    smooth = np.concatenate([-(np.linspace(0.01, 3, 100) ** 2), np.linspace(0.01, 3, 100) ** 2])
    assert not cand.valley(smooth, 0.02).any()
    assert cand.valley(np.concatenate([score, score + 12]), 0.02).sum() in range(198, 203)


def test_a_component_smaller_than_a_group_may_be_is_nobody():
    score, high = two_hills(0.02, 20.0)
    assert cand.mixture_split(score, 0.01).sum() == high.sum()
    assert not cand.mixture_split(score, 0.05).any()


DISTINCT = arrays(
    np.float64, st.integers(4, 9), elements=st.integers(-1000, 1000).map(float), unique=True
)


@given(DISTINCT, st.sampled_from([0.0, 0.2, 0.4]))
def test_the_exact_split_is_the_best_of_all_partitions(score, min_share):
    """Against every subset, sorted or not: the max step with two free groups, by brute force."""

    def between(member):
        share = member.mean()
        return share * (1 - share) * (score[member].mean() - score[~member].mean()) ** 2

    best = 0.0
    for chosen in itertools.product([False, True], repeat=len(score)):
        member = np.array(chosen)
        smaller = min(member.sum(), (~member).sum())
        if smaller >= max(1, min_share * len(score)):
            best = max(best, between(member))
    found = cand.exact_split(score, min_share)
    assert between(found) == pytest.approx(best)
    assert score[found].min() > score[~found].max()


@given(st.floats(0.05, 0.45))
def test_the_exact_split_leaves_each_side_its_share(min_share):
    score = np.concatenate([np.random.default_rng(0).normal(size=99), [1e6]])
    high = cand.exact_split(score, min_share)
    assert min(high.mean(), 1 - high.mean()) >= min_share


# A linear model of a split


def test_what_the_features_know_is_carried_over():
    planted = plant({"a": 0.3}, gap=4)
    found = cand.cross_fit(planted.features, planted.attribute, seed=0)
    assert roc_auc_score(planted.attribute, found) > 0.98
    assert ((found >= 0) & (found <= 1)).all()


def test_cross_fitting_never_sees_the_image_itself():
    """Labels by lot, and more features than images: a model of its own data would know them all."""
    random = np.random.default_rng(0)
    areas, own = [], []
    for _ in range(10):
        features, lot = random.normal(size=(120, 100)), random.random(120) < 0.4
        areas.append(roc_auc_score(lot, cand.cross_fit(features, lot, seed=1)))
        own.append(roc_auc_score(lot, LogisticDiscriminant.fit(features, lot)(features)))
    assert min(own) > 0.95
    assert abs(np.mean(areas) - 0.5) < 0.06


def test_too_few_members_teach_nothing():
    features, member = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) < 4
    assert not cand.cross_fit(features, member, seed=0).any()
    assert not cand.cross_fit(features, ~member, seed=0).any()


@given(st.floats(1e-3, 1e3))
def test_the_linear_model_does_not_depend_on_the_unit_of_the_values(unit):
    planted = plant({"a": 0.4}, count=100, width=3)
    scaled = planted.features * unit
    np.testing.assert_allclose(
        LogisticDiscriminant.fit(scaled, planted.attribute)(scaled),
        LogisticDiscriminant.fit(planted.features, planted.attribute)(planted.features),
        atol=1e-3,
    )


# Candidates


def test_the_projection_keeps_the_leading_components_of_scaled_features():
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 6)) @ random.normal(size=(6, 6)) * 10.0 ** np.arange(6)
    projection = Projection.fit(features, 3)
    found = projection(features)
    scaled = (features - features.mean(0)) / features.std(0)
    values, vectors = np.linalg.eigh(np.cov(scaled.T))
    for axis in range(3):
        wanted = scaled @ vectors[:, -1 - axis]
        assert abs(np.corrcoef(found[:, axis], wanted)[0, 1]) == pytest.approx(1, abs=1e-6)
        assert found[:, axis].var() == pytest.approx(values[-1 - axis], rel=1e-2)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-8)
    assert Projection.fit(features[:4])(features).shape == (300, 4)


def test_a_feature_that_never_changes_does_no_harm():
    features = np.random.default_rng(0).normal(size=(50, 3))
    features[:, 1] = 7.0
    assert np.isfinite(Projection.fit(features)(features)).all()


def test_centring_takes_the_prompt_out():
    planted = plant({"a": 0.5, "b": 0.5}, count=50)
    centred = centre_within_prompts(planted.features, planted.prompt)
    for name in "ab":
        np.testing.assert_allclose(centred[planted.prompt == name].mean(0), 0, atol=1e-9)
    assert planted.features.mean() != centred.mean()


def test_the_planted_groups_are_among_the_clusters():
    planted = plant({"a": 0.3, "b": 0.7}, gap=8)
    components = Projection.fit(planted.features)(planted.features)
    found = list(cand.cluster_candidates(components, planted.prompt, seed=0))
    assert max(agree(c.member, planted.attribute) for c in found) > 0.98
    centred = [c for c in found if "prompt-centred" in c.name]
    assert max(agree(c.member, planted.attribute) for c in centred) > 0.95
    # 2 views x 2 methods x (1 + 3 + 4 + 5 + 6 clusters); of two clusters one says it all
    assert len(found) == len({c.name for c in found}) == 76


def test_clusters_are_the_same_for_the_same_seed():
    planted = plant({"a": 0.3, "b": 0.7}, count=60)
    first, second = (
        list(cand.cluster_candidates(planted.features, planted.prompt, seed=5)) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.member, other.member)


def test_a_split_of_one_prompts_score_is_carried_to_all_prompts():
    planted = plant({"a": 0.1, "b": 0.9}, effect=6)
    found = list(
        cand.split_candidates(planted.score, planted.features, planted.prompt, 0.02, seed=0)
    )
    assert {c.name for c in found} == {
        f"{rule} of the score of {name!r}, carried over" for rule in cand.SPLITS for name in "ab"
    }
    for candidate in found:
        assert agree(candidate.member, planted.attribute) > 0.85, candidate.name


def test_what_the_features_cannot_see_is_not_carried_over():
    """The score is split by lot: cross-fitted, the members are no longer those of the split."""
    planted = plant({"a": 0.1}, effect=6)
    blind = np.random.default_rng(1).normal(size=planted.features.shape)
    high = cand.exact_split(planted.score, 0.02)
    found = [
        c.member
        for c in cand.split_candidates(planted.score, blind, planted.prompt, 0.02, seed=0)
        if "exact" in c.name
    ]
    assert found[0][high].mean() < 0.3
