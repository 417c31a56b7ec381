"""Figures to first order: against leaving images out, and intervals against repeated samples."""

import numpy as np
import pytest

from invdiff.core.measurement import fidelity, influence
from invdiff.core.measurement.influence import InfluenceExpansion, diversity
from invdiff.core.uncertainty import intervals
from invdiff.core.uncertainty.intervals import bootstrap_interval


def frechet(images, reference):
    value = fidelity.frechet(images, reference).value
    return influence.frechet_parts(value, images, reference)


FIGURES = {"frechet": frechet, "kid": influence.kid_parts}


def sets(seed, count=300, dims=4):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, dims)), 1.5 * random.normal(size=(count - 40, dims)) + 0.4


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("count", [90, 300])
def test_parts_are_what_leaving_an_image_out_changes(name, count):
    images, reference = sets(0, count)
    found, value = FIGURES[name](images, reference), FIGURES[name]
    for parts, of_images in ((found.parts, True), (found.reference, False)):
        left = []
        for row in range(12):
            one = np.delete(images, row, 0) if of_images else images
            two = reference if of_images else np.delete(reference, row, 0)
            left.append(found.value - value(one, two).value)
        left, parts = np.array(left), parts[:12]
        assert np.corrcoef(left, parts)[0, 1] > 0.99
        assert np.std(left) == pytest.approx(np.std(parts), rel=0.1)


def test_parts_sum_to_0():
    for found in (
        frechet(*sets(1)),
        influence.kid_parts(*sets(1)),
        diversity(sets(1)[0], ["p"] * 300),
    ):
        assert found.parts.sum() == pytest.approx(0, abs=1e-9)
        assert found.reference.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", FIGURES)
def test_the_interval_is_as_wide_as_repeated_samples_say(name):
    found = [FIGURES[name](*sets(seed)) for seed in range(40)]
    spread = np.std([one.value for one in found])
    ends = [bootstrap_interval(one, ["p"] * 300, 400, seed) for seed, one in enumerate(found)]
    width = np.mean([one.high - one.low for one in ends]) / (2 * 1.96)
    assert width == pytest.approx(spread, rel=0.3)


def test_the_interval_of_equal_sets_holds_0_although_its_first_order_vanishes():
    random = np.random.default_rng(2)
    held = 0
    for seed in range(60):
        found = influence.kid_parts(*random.normal(size=(2, 60, 8)))
        ends = bootstrap_interval(found, ["p"] * 60, 400, seed)
        held += ends.low <= 0 <= ends.high
    assert held >= 54


def test_images_are_drawn_within_prompts_and_prompts_as_a_whole():
    """A mean that differs between prompts only is certain for these prompts, not for others."""
    prompts = [prompt for prompt in "abcd" for _ in range(50)]
    found = influence.mean_of(np.repeat([0.0, 1.0, 2.0, 3.0], 50))
    near = bootstrap_interval(found, prompts)
    far = bootstrap_interval(found, prompts, over="prompts")
    assert near.high - near.low == pytest.approx(0, abs=1e-12)
    assert far.high - far.low > 1
    alone = bootstrap_interval(found, ["p"] * 200, over="prompts")
    assert np.isnan([alone.low, alone.high]).all()


def test_variety_differs_between_prompts_too():
    random = np.random.default_rng(4)
    spread = np.repeat([0.1, 0.3, 1.0], 40)[:, None]
    points = 3 + spread * random.normal(size=(120, 5))
    prompts = [prompt for prompt in "abc" for _ in range(40)]
    far = bootstrap_interval(diversity(points, prompts), prompts, over="prompts")
    assert far.high - far.low > 0.1


def test_draws_belong_to_the_seed_and_not_to_the_chunk(monkeypatch):
    found = InfluenceExpansion(0.0, np.random.default_rng(5).normal(size=30), np.zeros(0))
    one = bootstrap_interval(found, ["p"] * 30, 100, seed=7)
    monkeypatch.setattr(intervals, "CHUNK", 90)
    again = bootstrap_interval(found, ["p"] * 30, 100, seed=7)
    assert (again.low, again.high) == pytest.approx((one.low, one.high))
    assert bootstrap_interval(found, ["p"] * 30, 100, seed=8).low != pytest.approx(one.low)
