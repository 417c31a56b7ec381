"""Frechet distance, precision and recall against closed forms, scipy and planted truths."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from invdiff.core.measurement import fidelity
from invdiff.errors import InvDiffError

RANDOM = np.random.default_rng(0)


def cloud(count, dims=6, shift=0.0, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, dims)) @ random.normal(size=(dims, dims)) + shift


def test_frechet_agrees_with_the_matrix_root_of_scipy():
    one, other = cloud(200), cloud(300, shift=1.0, seed=1)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    shift = ((one.mean(0) - other.mean(0)) ** 2).sum()
    witness = shift + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert fidelity.frechet(one, other).value == pytest.approx(witness, rel=1e-9)


def test_frechet_of_known_moments():
    base = cloud(100)
    assert fidelity.frechet(base, base).value == pytest.approx(0, abs=1e-9)
    assert fidelity.frechet(base, base + 2.0).value == pytest.approx(4 * 6)
    spread = np.trace(np.cov(base, rowvar=False))  # commuting covariances C and 9 C
    centred = base - base.mean(0)
    assert fidelity.frechet(centred, 3 * centred).value == pytest.approx(4 * spread)


def test_frechet_is_symmetric_and_ignores_the_order():
    one, other = cloud(80), cloud(90, seed=1)
    found = fidelity.frechet(one, other)
    assert found.value == pytest.approx(fidelity.frechet(other[::-1], one).value)
    assert (found.images, found.reference_images, found.note) == (80, 90, "")


def test_frechet_of_few_images_carries_a_note():
    assert "singular" in fidelity.frechet(cloud(6), cloud(90)).note
    assert "singular" in fidelity.frechet(cloud(90), cloud(6)).note
    assert fidelity.frechet(cloud(7), cloud(90)).note == ""


def by_hand(points, centres, neighbours):
    inside = 0
    for point in points:
        for centre in centres:
            radius = sorted(np.linalg.norm(centres - centre, axis=1))[neighbours]
            if np.linalg.norm(point - centre) <= radius:
                inside += 1
                break
    return inside / len(points)


def covered_by_hand(reference, images, neighbours):
    """Coverage, with loops."""
    near = 0
    for place, centre in enumerate(reference):
        others = sorted(np.linalg.norm(centre - o) for j, o in enumerate(reference) if j != place)
        near += min(np.linalg.norm(centre - image) for image in images) <= others[neighbours - 1]
    return near / len(reference)


@pytest.mark.parametrize("rows", [7, 1024])
def test_manifolds_agree_with_loops_whatever_the_chunk(monkeypatch, rows):
    monkeypatch.setattr(fidelity, "ROWS", rows)
    images, reference = cloud(40, dims=2), cloud(50, dims=2, shift=0.5, seed=1)
    found = fidelity.manifolds(images, reference, neighbours=2)
    assert found.precision.mean() == by_hand(images, reference, 2)
    assert found.recall.mean() == by_hand(reference, images, 2)
    assert found.coverage.mean() == covered_by_hand(reference, images, 2)
    assert 0 < found.precision.mean() < 1
    assert 0 < found.recall.mean() < 1


def test_equal_sets_have_precision_and_recall_one_and_distant_ones_zero():
    base = cloud(50)
    same, far = fidelity.manifolds(base, base), fidelity.manifolds(base, base + 1e3)
    assert (same.precision.mean(), same.recall.mean()) == (1, 1)
    assert (far.precision.mean(), far.recall.mean()) == (0, 0)
    one = np.ones((9, 2))  # balls without a width still hold their centres
    assert fidelity.manifolds(one, one).precision.mean() == 1


def test_a_rare_mode_has_recall_but_little_coverage():
    """Few images of a mode have wide balls around them, which recall counts as found."""
    random = np.random.default_rng(0)
    mode = random.normal(size=(400, 4))
    reference = np.concatenate([mode, random.normal(size=(400, 4)) + 30])
    rare = np.concatenate([random.normal(size=(780, 4)), random.normal(size=(20, 4)) + 30])
    even = random.normal(size=(800, 4)) + np.repeat([0.0, 30.0], 400)[:, None]
    found, best = fidelity.manifolds(rare, reference), fidelity.manifolds(even, reference)
    assert found.recall.mean() > best.recall.mean() - 0.05
    assert found.coverage.mean() < best.coverage.mean() - 0.1


def test_a_lost_mode_lowers_recall_and_odd_pictures_lower_precision():
    near, far = RANDOM.normal(size=(200, 3)), RANDOM.normal(size=(200, 3)) + 50
    both = np.vstack([near, far])
    lost = fidelity.manifolds(near + 0.01, both)
    assert lost.recall.mean() == pytest.approx(0.5, abs=0.05)
    assert lost.precision.mean() > 0.9
    odd = fidelity.manifolds(both, near + 0.01)
    assert odd.precision.mean() == pytest.approx(0.5, abs=0.05)
    assert odd.recall.mean() > 0.9


@pytest.mark.parametrize("figure", [fidelity.frechet, fidelity.manifolds])
def test_what_cannot_be_measured_is_refused(figure):
    good, broken = cloud(20), cloud(20)
    broken[3, 1] = np.nan
    with pytest.raises(InvDiffError, match="1 of 20 images have features that are not finite"):
        figure(broken, good)
    with pytest.raises(InvDiffError, match="1 of 20 reference have features"):
        figure(good, np.where(np.isnan(broken), np.inf, broken))
    with pytest.raises(InvDiffError, match="6 features and the reference 5"):
        figure(good, good[:, :5])
    with pytest.raises(InvDiffError, match="number of images is 1, and"):
        figure(good[:1], good)


def test_manifolds_need_more_images_than_neighbours():
    fidelity.manifolds(cloud(4), cloud(4), neighbours=3)
    with pytest.raises(InvDiffError, match="and 5 are needed"):
        fidelity.manifolds(cloud(4), cloud(9), neighbours=4)
