"""Captions by meaning: planted groups come back, noise is one group, order is nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples

from invdiff.core.discovery.prompt_clusters import (
    LEAST_SILHOUETTE,
    directions,
    joined,
    nearest_centre,
    prompt_groups,
    silhouette,
)


def planted(groups, each=60, width=48, spread=0.5, seed=0):
    """Vectors around ``groups`` directions, with a large part that all have in common."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(groups, width))
    label = np.repeat(np.arange(groups), each)
    vectors = 3 + centres[label] + spread * draw.normal(size=(groups * each, width))
    return vectors.astype(np.float32), label


def same_partition(first, second):
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    return len(pairs) == len(set(first.tolist())) == len(set(second.tolist()))


@pytest.mark.parametrize("groups", [2, 4, 9])
def test_planted_groups_come_back(groups):
    vectors, label = planted(groups)
    found = prompt_groups(vectors, np.ones(len(vectors), int), least=40)
    assert same_partition(found.label, label)
    assert max(found.silhouettes, key=found.silhouettes.get) == groups


def test_lengths_do_not_count():
    vectors, label = planted(3)
    longer = vectors * np.linspace(1, 20, len(vectors))[:, None].astype(np.float32)
    assert same_partition(prompt_groups(longer, np.ones(len(label), int), 40).label, label)


@pytest.mark.parametrize("width", [16, 200])
def test_noise_is_one_group(width):
    noise = np.random.default_rng(1).normal(size=(400, width)).astype(np.float32)
    found = prompt_groups(noise, np.ones(400, int), 40)
    assert (found.label == 0).all()
    assert found.silhouettes, "others were tried"
    assert max(found.silhouettes.values()) < LEAST_SILHOUETTE


def test_too_few_images_or_equal_texts_are_one_group():
    vectors, _ = planted(3, each=10)
    assert prompt_groups(vectors, np.ones(30, int), 40).silhouettes == {}
    same = np.ones((90, 8), np.float32)
    assert (prompt_groups(same, np.ones(90, int), 10).label == 0).all()
    assert (prompt_groups(same[:1], np.array([90]), 10).label == 0).all()


@given(seed=st.integers(0, 1000), least=st.integers(1, 60))
def test_every_group_has_enough_images(seed, least):
    draw = np.random.default_rng(seed)
    vectors, _ = planted(3, each=12, width=6, spread=draw.uniform(0.1, 2), seed=seed)
    images = draw.integers(1, 9, 36)
    label = prompt_groups(vectors, images, least).label
    sizes = np.bincount(label, weights=images)
    assert len(sizes) == 1 or sizes.min() >= least
    assert sizes.min() > 0, "labels have no gaps"


def test_a_small_cluster_joins_the_nearest_one():
    points = np.array([[0.0], [0.1], [1.0], [1.1], [5.0], [5.1]])
    label = np.array([7, 7, 3, 3, 5, 5])
    enough = np.array([4, 4, 1, 1, 4, 4])
    assert joined(points, label, enough, 3).tolist() == [0, 0, 0, 0, 1, 1]
    assert joined(points, label, enough, 2).tolist() == [0, 0, 1, 1, 2, 2]
    assert joined(points, label, enough, 100).tolist() == [0] * 6


def test_the_order_of_the_texts_gives_the_same_groups():
    vectors, _ = planted(5, spread=0.8)
    images = np.random.default_rng(3).integers(1, 4, len(vectors))
    order = np.random.default_rng(4).permutation(len(vectors))
    straight = prompt_groups(vectors, images, 40).label
    shuffled = prompt_groups(vectors[order], images[order], 40).label
    assert same_partition(straight[order], shuffled)


def test_twice_gives_the_same_whatever_was_drawn():
    vectors, _ = planted(6, spread=1.2)
    first = prompt_groups(vectors, np.ones(len(vectors), int), 40)
    np.random.seed(5)
    second = prompt_groups(vectors, np.ones(len(vectors), int), 40)
    assert first.label.tolist() == second.label.tolist()
    assert first.silhouettes == second.silhouettes


def test_the_silhouette_is_scikit_learns():
    points, label = directions(planted(3)[0]), planted(3)[1]
    assert silhouette(points, label) == pytest.approx(silhouette_samples(points, label).mean())
    assert silhouette(points, np.zeros(len(label), int)) == 0


def test_the_nearest_texts_speak_for_a_group():
    angle = np.array([0.0, 0.1, 0.2, 0.5, 2.0, 2.1, 2.9])
    vectors = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    label = np.array([0, 0, 0, 0, 1, 1, 1])
    ones = np.ones(7, int)
    first, second = nearest_centre(vectors, ones, label, 2)
    assert first.tolist() == [2, 1]
    assert second.tolist()[0] == 5
    heavy = nearest_centre(vectors, np.array([1, 1, 1, 40, 1, 1, 1]), label, 1)
    assert [one.tolist() for one in heavy] == [[3], [5]]
