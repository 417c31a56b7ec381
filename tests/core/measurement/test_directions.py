"""Each figure goes the way it should: collapse, odd pictures, swapped sets, skew."""

import numpy as np
import pytest

from invdiff.core.measurement import fidelity, influence, parity
from invdiff.core.measurement.influence import diversity
from invdiff.errors import InvDiffError


def modes(seed, each=60, kept=4, dims=5):
    """Pictures of ``kept`` of four far modes."""
    random = np.random.default_rng(seed)
    centres = 8 * np.eye(4, dims)
    return np.concatenate([random.normal(size=(each, dims)) + centres[k] for k in range(kept)])


REAL, WHOLE, COLLAPSED = modes(0), modes(1), modes(2, each=120, kept=2)


def test_mode_collapse_lowers_recall_and_coverage_not_precision():
    whole, collapsed = (fidelity.manifolds(one, REAL) for one in (WHOLE, COLLAPSED))
    assert collapsed.recall.mean() < whole.recall.mean() - 0.3
    assert collapsed.coverage.mean() < whole.coverage.mean() - 0.3
    assert collapsed.precision.mean() > whole.precision.mean() - 0.1


def test_odd_pictures_lower_precision_and_density_not_recall():
    odd = np.concatenate([WHOLE, np.random.default_rng(3).normal(size=(120, 5)) * 40])
    plain, mixed = fidelity.manifolds(WHOLE, REAL), fidelity.manifolds(odd, REAL)
    assert mixed.precision.mean() < plain.precision.mean() - 0.2
    assert mixed.density.mean() < plain.density.mean() - 0.2
    assert mixed.recall.mean() >= plain.recall.mean() - 0.05


def test_swapping_the_sets_swaps_precision_and_recall():
    one, other = fidelity.manifolds(COLLAPSED, REAL), fidelity.manifolds(REAL, COLLAPSED)
    assert (one.precision.mean(), one.recall.mean()) == (
        other.recall.mean(),
        other.precision.mean(),
    )
    assert one.precision.mean() != one.recall.mean()


def test_crowding_raises_density():
    """Copies near a dense place lie in more balls than the reference's own members do."""
    tight = REAL[:60].mean(0) + 0.1 * np.random.default_rng(4).normal(size=(240, 5))
    assert fidelity.manifolds(tight, REAL).density.mean() > 1.5
    assert fidelity.manifolds(WHOLE, REAL).density.mean() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("distance", [fidelity.frechet, influence.kid_parts])
def test_distances_grow_with_collapse_and_are_symmetric(distance):
    near, far = distance(WHOLE, REAL).value, distance(COLLAPSED, REAL).value
    assert far > 5 * abs(near)
    assert distance(REAL, COLLAPSED).value == pytest.approx(far)


def test_kid_of_equal_distributions_is_0_on_average_at_any_size():
    random = np.random.default_rng(5)
    for count in (10, 40):
        values = [influence.kid_parts(*random.normal(size=(2, count, 3))).value for _ in range(400)]
        assert abs(np.mean(values)) < 4 * np.std(values) / 20


def test_kid_does_not_depend_on_the_chunk(monkeypatch):
    whole = influence.kid_parts(WHOLE, REAL)
    monkeypatch.setattr(influence, "ROWS", 7)
    parts = influence.kid_parts(WHOLE, REAL)
    assert parts.value == pytest.approx(whole.value)
    assert parts.rest == pytest.approx(whole.rest)


def test_pictures_that_are_alike_have_less_variety():
    prompt = ["p"] * len(WHOLE)
    assert diversity(modes(1, kept=1), ["p"] * 60).value < 0.5 * diversity(WHOLE, prompt).value


def test_variety_leaves_out_pairs_of_a_picture_with_itself():
    points = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    prompts = ["a", "a", "a", "b", "b"]
    expected = ((np.sqrt(2) + 2 + np.sqrt(2)) / 3 + np.sqrt(2)) / 2
    assert diversity(points, prompts).value == pytest.approx(expected)
    with_itself = ((2 * np.sqrt(2) + 2) * 2 / 9 + np.sqrt(2) / 2) / 2
    assert diversity(points, prompts, with_itself=True).value == pytest.approx(with_itself)
    with pytest.raises(InvDiffError, match="no prompt has two images"):
        diversity(points[:2], ["a", "b"])


def test_a_skewed_sampler_raises_bias_and_distance_from_the_target():
    even, skewed = np.array([[50, 50]]), np.array([[80, 20]])
    assert parity.bias(skewed) > parity.bias(even)
    target = np.array([0.5, 0.5])
    assert parity.distance(skewed, target) == pytest.approx(0.3)
    assert parity.distance(even, target) == 0


@pytest.mark.parametrize("figure", [influence.kid_parts, fidelity.frechet, fidelity.manifolds])
def test_features_that_are_not_finite_are_refused(figure):
    broken = WHOLE.copy()
    broken[3, 1] = np.nan
    with pytest.raises(InvDiffError, match="1 of 240 images have features that are not finite"):
        figure(broken, REAL)
    with pytest.raises(InvDiffError, match="are needed"):
        figure(WHOLE[:1], REAL)
