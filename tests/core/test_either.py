"""The default chooses between the two scores without being told which bias there is."""

import numpy as np
import pytest
from planted import plant

from invdiff.core import either as module
from invdiff.core.either import either
from invdiff.core.grouping import semantic

SETTINGS = {"min_share": 0.02, "false_alarm": 0.01, "seed": 0}


def search(planted, excess, loss):
    rows = np.arange(len(planted.prompt))
    return either(excess, loss, planted.features, rows, planted.prompt, **SETTINGS)


def idle(planted, seed=0):
    return np.random.default_rng(seed).normal(size=len(planted.prompt))


def found(grouping):
    return sorted(name for name, verdict in grouping.verdicts.items() if verdict.found)


def test_a_skew_without_a_tie_is_found_in_the_loss():
    planted = plant({"a": 0.1, "b": 0.1}, count=200)
    grouping = search(planted, idle(planted), planted.score)
    assert found(grouping) == ["a", "b"]
    assert grouping.score == "loss"
    assert ((grouping.against > 0.5) == planted.attribute).mean() > 0.97


def test_where_the_excess_explains_something_nothing_changes(monkeypatch):
    planted = plant({"few": 0.1, "most": 0.9}, count=200)
    rows = np.arange(len(planted.prompt))
    alone = semantic(planted.score, planted.features, rows, planted.prompt, **SETTINGS)
    looked, calls = module.semantic, []
    monkeypatch.setattr(module, "semantic", lambda *a, **k: calls.append(1) or looked(*a, **k))
    grouping = search(planted, planted.score, planted.score[::-1].copy())
    np.testing.assert_array_equal(grouping.against, alone.against)
    assert grouping.verdicts == alone.verdicts
    assert (grouping.ranking, grouping.chosen) == (alone.ranking, alone.chosen)
    assert (grouping.score, len(calls)) == ("excess", 1)


@pytest.mark.parametrize(
    ("shares", "effect"),
    [
        ({"a": 0.5, "b": 0.5}, 2.0),  # even
        ({"a": 0.3, "b": 0.3}, 2.0),  # as uneven as one class of several
        ({"a": 0.1, "b": 0.1}, 0.3),  # explains too little
        ({"a": 0.1, "b": 0.9}, 2.0),  # the excess would have shown it
        ({"a": 0.1, "b": 0.5}, 2.0),  # one prompt alone
    ],
)
def test_what_else_makes_pictures_hard_is_no_finding(shares, effect):
    planted = plant(shares, count=200, effect=effect)
    grouping = search(planted, idle(planted), planted.score)
    assert found(grouping) == []
    assert grouping.score == "excess"
