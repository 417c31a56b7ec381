"""A rough start settles to the planted groups, whatever the prompts' contents and shares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from invdiff.core.discovery.refinement import fit_gaussians_on_direction, refine_boundary
from invdiff.core.discovery.shared_shift import fit_shared_shift_mixture
from invdiff.core.groups.two_groups import GroupModel, membership, shifted
from tests.core.planted import plant


def rough(attribute, wrong, seed=0):
    """The truth with a share of the images on the other side."""
    return (attribute ^ (np.random.default_rng(seed).random(len(attribute)) < wrong)) * 1.0


SHARES = {"a": 0.1, "b": 0.9, "c": 0.5}


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.25, 0.35])
def test_skewed_groups_are_recovered_from_a_rough_start(wrong):
    planted = plant(SHARES, gap=6)
    q, direction = fit_shared_shift_mixture(
        planted.features, rough(planted.attribute, wrong), planted.prompt
    )
    assert ((q > 0.5) == planted.attribute).mean() > 0.98
    for name, share in SHARES.items():
        assert q[planted.prompt == name].mean() == pytest.approx(share, abs=0.02)
    assert roc_auc_score(planted.attribute, planted.features @ direction) > 0.9


def test_the_direction_is_the_discriminant_of_the_planted_groups():
    """Unequal noise along the axes: the direction is covariance^-1 shift, not the shift."""
    random = np.random.default_rng(0)
    attribute = random.random(4000) < 0.3
    features = random.normal(size=(4000, 3)) * [1, 4, 1] + np.outer(attribute, [5, 8, 0])
    _, direction = fit_shared_shift_mixture(features, attribute * 1.0, np.full(4000, "a"))
    wanted = np.array([5, 8 / 16, 0])
    cosine = direction @ wanted / np.linalg.norm(direction) / np.linalg.norm(wanted)
    assert cosine > 0.99


@given(st.integers(0, 2**31), st.floats(0, 1000))
def test_what_a_prompt_shows_does_not_matter(seed, size):
    planted = plant({"a": 0.2, "b": 0.7}, count=60, width=4)
    start = rough(planted.attribute, 0.1)
    moves = size * np.random.default_rng(seed).normal(size=(2, 4))
    moved = planted.features + moves[(planted.prompt == "b").astype(int)]
    for one, other in zip(
        fit_shared_shift_mixture(planted.features, start, planted.prompt),
        fit_shared_shift_mixture(moved, start, planted.prompt),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_exchanging_the_groups_of_the_start_exchanges_those_of_the_end():
    planted = plant(SHARES, count=100)
    start = rough(planted.attribute, 0.1)
    q, direction = fit_shared_shift_mixture(planted.features, start, planted.prompt)
    turned, back = fit_shared_shift_mixture(planted.features, 1 - start, planted.prompt)
    np.testing.assert_allclose(turned, 1 - q, atol=1e-3)
    np.testing.assert_allclose(back, -direction, atol=1e-2 * np.abs(direction).max())


def test_a_start_that_knows_nothing_stays_finite():
    planted = plant(SHARES, count=50)
    for start in (np.full(150, 0.5), np.zeros(150), np.ones(150)):
        q, direction = fit_shared_shift_mixture(planted.features, start, planted.prompt)
        assert np.isfinite(q).all()
        assert np.isfinite(direction).all()
        assert ((q >= 0) & (q <= 1)).all()
        assert np.isfinite(refine_boundary(planted.features, q, planted.prompt)[0]).all()


def test_refining_keeps_the_groups_and_ignores_the_prompts():
    planted = plant(SHARES, gap=5)
    q, _ = fit_shared_shift_mixture(planted.features, rough(planted.attribute, 0.1), planted.prompt)
    direction, fitted = refine_boundary(planted.features, q, planted.prompt)
    moved = planted.features + 50.0 * (planted.prompt == "b")[:, None]
    np.testing.assert_allclose(refine_boundary(moved, q, planted.prompt)[0], direction, atol=1e-3)
    for name, share in SHARES.items():
        rows = planted.prompt == name
        values = planted.features[rows] @ direction
        assert roc_auc_score(planted.attribute[rows], values) > 0.99
        assert membership(values, *fitted[name]).mean() == pytest.approx(share, abs=0.02)


def test_refining_finds_members_that_show_the_attribute_only_a_little():
    """How plain the sign is varies under a hat; elsewhere it comes with a second one."""
    random = np.random.default_rng(0)
    prompt = np.repeat(["hat", "plain"], 2000)
    attribute = random.random(4000) < np.where(prompt == "hat", 0.1, 0.5)
    plainness = np.where(prompt == "hat", random.random(4000), 1.0)
    features = random.normal(size=(4000, 20))
    features[:, 0] += 10 * plainness * attribute
    features[:, 1] += 5 * attribute
    rows = prompt == "hat"
    faint = attribute[rows] & (plainness[rows] < 0.3)
    start = (features[:, 0] > 5) * 1.0
    direction, fitted = refine_boundary(features, start, prompt)
    found = membership(features[rows] @ direction, *fitted["hat"]) > 0.5
    assert not start[rows][faint].any()
    assert found[faint].mean() > 0.9
    assert found[~attribute[rows]].mean() < 0.01


def test_a_prompt_of_one_group_keeps_it_and_is_no_model_for_the_others():
    """Its own two halves, along what the others call the attribute, are not two groups."""
    planted = plant({"few": 0.1, "most": 0.9, "none": 1e-3}, count=400)
    features = planted.features.copy()
    few = planted.prompt == "few"
    shift = features[few & planted.attribute].mean(0) - features[few & ~planted.attribute].mean(0)
    none = np.flatnonzero(planted.prompt == "none")
    features[none[::2]] += 0.4 * shift
    start = planted.attribute * 1.0
    start[none[:12:2]] = 1.0
    direction, fitted = refine_boundary(features, start, planted.prompt)
    for name in ("few", "most"):
        rows = planted.prompt == name
        found = membership(features[rows] @ direction, *fitted[name]) > 0.5
        assert (found == planted.attribute[rows]).mean() > 0.99
    assert membership(features[none] @ direction, *fitted["none"]).mean() < 0.03


@pytest.mark.parametrize(
    ("part", "count", "members", "found"),
    [
        (1.0, 60, 9, True),  # few, and where the others have the group
        (0.6, 60, 9, False),  # few, on the way to it
        (0.6, 600, 90, True),  # what many pictures show is another matter
    ],
)
def test_a_few_pictures_on_the_way_to_a_group_are_not_in_it(part, count, members, found):
    planted = plant({"few": 0.1, "most": 0.9}, gap=10)
    few = planted.prompt == "few"
    shift = planted.features[few & planted.attribute].mean(0)
    shift -= planted.features[few & ~planted.attribute].mean(0)
    own = np.random.default_rng(1).normal(size=(count, planted.features.shape[1]))
    own[:members] += part * shift
    features = np.concatenate([planted.features, own])
    prompt = np.append(planted.prompt, np.full(count, "own"))
    start = np.append(planted.attribute, np.arange(count) < members) * 1.0
    direction, fitted = refine_boundary(features, start, prompt)
    share = membership(own @ direction, *fitted["own"]).mean()
    assert share == pytest.approx(members / count if found else 0, abs=0.02)
    for name in ("few", "most"):
        rows = planted.prompt == name
        told = membership(planted.features[rows] @ direction, *fitted[name]) > 0.5
        assert (told == planted.attribute[rows]).all()


def test_a_shifted_ratio_is_that_of_the_shifted_values():
    values = np.linspace(-3, 3, 7)
    moved = membership(values + 0.7, shifted((0.3, 1.2, -0.4), 0.7), -1.0)
    np.testing.assert_allclose(moved, membership(values, (0.3, 1.2, -0.4), -1.0))


# Along the direction


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("width", [0.7, 1.0, 1.5])
def test_two_gaussians_are_recovered(share, width):
    random = np.random.default_rng(0)
    one = random.random(20_000) < share
    values = np.where(one, 5 + width * random.normal(size=20_000), random.normal(size=20_000))
    ratio, prior = fit_gaussians_on_direction(values, rough(one, 0.05, seed=1))
    assert 1 / (1 + np.exp(-prior)) == pytest.approx(share, abs=0.01 if width == 1 else 0.03)
    found = ratio[0] + ratio[1] * values + ratio[2] * values**2 + prior
    assert ((found > 0) == one).mean() > 0.965


def test_the_log_ratio_is_that_of_the_two_densities():
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(size=10_000), 6 + random.normal(size=10_000)])
    (a, b, c), _ = fit_gaussians_on_direction(values, np.repeat([0.0, 1.0], 10_000))
    grid = np.linspace(0, 6, 20)
    wanted = norm.logpdf(grid, 6, 1) - norm.logpdf(grid, 0, 1)
    assert a + b * grid + c * grid**2 == pytest.approx(wanted, abs=0.6)


def test_values_without_a_gap_stay_finite():
    for values in (np.zeros(30), np.linspace(0, 1, 30)):
        for q in (np.full(30, 0.5), np.zeros(30), np.ones(30)):
            ratio, prior = fit_gaussians_on_direction(values, q)
            assert np.isfinite([*ratio, prior]).all()


# The group model


def shared_shift_memberships(share=0.1, count=1000, gap=5.0):
    planted = plant({"a": share}, count=count, gap=gap)
    return GroupModel.supervised(planted.features, planted.attribute * 1.0), planted


def test_the_model_knows_the_groups_it_was_given():
    model, planted = shared_shift_memberships()
    q = model(planted.features)
    assert roc_auc_score(planted.attribute, q) > 0.99
    assert q.mean() == pytest.approx(0.1, abs=0.01)
    evidence = model.log_ratio(planted.features)
    assert evidence.min() >= -30
    assert evidence.max() <= 30


@pytest.mark.parametrize("trained_on", [0.1, 0.5])
@pytest.mark.parametrize("share", [0.03, 0.3, 0.5, 0.9])
def test_other_shares_than_the_trained_ones_are_recovered(trained_on, share):
    """Generated pictures: the groups look the same, their mix is another one."""
    planted = plant({"a": trained_on}, count=2000, gap=4)
    q, direction = fit_shared_shift_mixture(
        planted.features, rough(planted.attribute, 0.1), planted.prompt
    )
    model = GroupModel(direction, *fit_gaussians_on_direction(planted.features @ direction, q))
    other = plant({"a": share}, count=2000, gap=4)  # the same seed: the same look
    evidence = model.log_ratio(other.features)
    assert model.share(evidence) == pytest.approx(share, abs=0.02)
    supervised = GroupModel.supervised(planted.features, planted.attribute * 1.0)
    assert supervised.share(supervised.log_ratio(other.features)) == pytest.approx(share, abs=0.06)


def test_the_share_is_the_likelihoods_maximum():
    evidence = np.random.default_rng(0).normal(1, 3, 500)
    found = shared_shift_memberships()[0].share(evidence)
    grid = np.linspace(0.01, 0.99, 981)
    likelihood = [np.log1p(share * np.expm1(evidence)).sum() for share in grid]
    assert found == pytest.approx(grid[int(np.argmax(likelihood))], abs=2e-3)


def test_a_flipped_model_calls_the_groups_the_other_way_round():
    model, planted = shared_shift_memberships()
    model = GroupModel(model.weight, (*model.ratio[:2], 0.05), model.prior)
    flipped = model.flipped()
    np.testing.assert_allclose(flipped(planted.features), 1 - model(planted.features), atol=1e-9)
    evidence = model.log_ratio(planted.features)
    assert flipped.share(-evidence) == pytest.approx(1 - model.share(evidence), abs=1e-6)
    assert flipped.flipped() == model


@pytest.mark.parametrize("members", [0, 2, 98, 100])
def test_groups_too_small_for_a_model_keep_their_share(members):
    features = np.random.default_rng(0).normal(size=(100, 5))
    model = GroupModel.supervised(features, (np.arange(100) < members) * 1.0)
    assert model(features) == pytest.approx(np.clip(members / 100, 0.005, 0.995))
