"""The default chooses what to look at without being told which bias there is."""

import numpy as np
import pytest

from invdiff.core.discovery.estimators.auto import auto_estimator
from invdiff.core.discovery.estimators.contrast import contrast_estimator
from invdiff.core.discovery.estimators.semantic import semantic
from tests.core.planted import contrast, plant

SETTINGS = {"min_share": 0.02, "false_alarm": 0.01, "seed": 0}


def search(planted, excess, loss, known=None):
    rows = np.arange(len(planted.prompt))
    if known is None:
        known = contrast(planted, dict.fromkeys(np.unique(planted.prompt), 0.5))
    return auto_estimator(
        excess, loss, lambda: known, planted.features, rows, planted.prompt, **SETTINGS
    )


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


def same(one, other):
    np.testing.assert_array_equal(one.against, other.against)
    assert one.verdicts == other.verdicts
    assert (one.ranking, one.chosen, one.score) == (other.ranking, other.chosen, other.score)


def test_where_the_contrasts_show_something_the_loss_is_not_looked_at():
    shares = {"few": 0.1, "most": 0.9}
    planted = plant(shares, count=200)
    known, rows = contrast(planted, shares), np.arange(400)
    unread = np.full(len(planted.prompt), np.nan)  # whoever looks at it has no groups
    grouping = search(planted, planted.score, unread, known)
    settings = {k: v for k, v in SETTINGS.items() if k != "seed"}
    same(
        grouping,
        contrast_estimator(
            lambda: known, planted.score, planted.features, rows, planted.prompt, **settings
        ),
    )
    assert found(grouping) == ["few", "most"]


def test_a_single_prompt_is_searched_by_its_excess():
    planted = plant({"a": 0.1}, count=200)
    grouping = search(planted, planted.score, idle(planted))
    same(
        grouping,
        semantic(planted.score, planted.features, np.arange(200), planted.prompt, **SETTINGS),
    )
    assert found(grouping) == ["a"]
    assert grouping.score == "excess"


@pytest.mark.parametrize(
    ("shares", "effect"),
    [
        ({"a": 0.5, "b": 0.5}, 2.0),  # even
        ({"a": 0.3, "b": 0.3}, 2.0),  # as uneven as one class of several
        ({"a": 0.1, "b": 0.1}, 0.3),  # explains too little
        ({"a": 0.1, "b": 0.9}, 2.0),  # the contrasts would have shown it
        ({"a": 0.1, "b": 0.5}, 2.0),  # one prompt alone
    ],
)
def test_what_else_makes_pictures_hard_is_no_finding(shares, effect):
    planted = plant(shares, count=200, effect=effect)
    grouping = search(planted, idle(planted), planted.score)
    assert found(grouping) == []
    assert grouping.score == "contrast"
