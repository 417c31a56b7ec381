"""Groups that a linear model learns from its own groups."""

import numpy as np
import pytest

from invdiff.core.discovery import self_training
from invdiff.core.discovery.self_training import self_trained

SHARE = 0.12


@pytest.fixture(scope="module")
def planted():
    """Components in which a rare group of eight different looks is on one side of a plane."""
    random = np.random.default_rng(0)
    member = random.random(3000) < SHARE
    looks = random.normal(size=(2, 8, 40)) * 2
    components = looks[member * 1, random.integers(0, 8, 3000)] + random.normal(size=(3000, 40))
    components[:, 0] += 4 * member
    return components, member


def test_a_rough_start_ends_at_the_groups(planted):
    components, member = planted
    random = np.random.default_rng(1)
    missed, added = random.random(3000) < 0.4, random.random(3000) < 0.06
    start = (member & ~missed) | (~member & added)
    found = self_trained(components, start)
    assert start[member].mean() < 0.62
    assert start[~member].mean() > 0.05
    assert found[member].mean() > 0.9
    assert found[~member].mean() < 0.02
    assert found.sum() == start.sum()


def test_no_image_has_a_part_in_its_own_group(planted):
    """In components that tell nothing a group is another one; learnt by heart it would stay."""
    components, member = planted
    noise = np.random.default_rng(2).normal(size=components.shape)
    found = self_trained(noise, member)
    assert found.sum() == member.sum()
    assert found[member].mean() < 2 * SHARE


def test_it_stops_where_nothing_changes(planted, monkeypatch):
    components, member = planted
    seen = []
    fitted = self_training.cross_fit
    monkeypatch.setattr(self_training, "cross_fit", lambda *given: seen.append(0) or fitted(*given))
    self_trained(components, self_trained(components, member))
    settled = len(seen)
    assert settled < 2 * self_training.ROUNDS
    assert not self_trained(components, np.zeros(3000, bool)).any()
    assert len(seen) == settled + 1
