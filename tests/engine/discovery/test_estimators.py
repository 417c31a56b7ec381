"""Every estimator by its name, on the same planted evidence."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from invdiff.engine.discovery.estimators import Evidence, estimate_groups
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.study import INFERRING
from invdiff.studies import comparison
from invdiff.studies.comparison import estimators as compared
from tests.core.planted import contrast, plant

comparison.register()

SHARES = {"few": 0.1, "most": 0.9}


def evidence_of(planted, scored=None, labels=None, seed=0, effect=4.0):
    """What discovery would have measured: an excess, and a weaker loss."""
    random = np.random.default_rng(seed)
    rows = np.arange(len(planted.prompt)) if scored is None else scored
    rare = rare_of(planted)[rows]
    return Evidence(
        planted.prompt,
        planted.features,
        rows,
        score=planted.score[rows],
        loss_score=random.normal(size=len(rows)),
        loss=random.normal(size=len(rows)) + 0.5 * effect * rare,
        contrasts=lambda: contrast(planted, SHARES, effect=effect / 4, seed=seed, rows=rows),
        passes=None,
        labels=labels,
    )


def rare_of(planted):
    found = np.zeros(len(planted.prompt), bool)
    for name in np.unique(planted.prompt):
        found[planted.prompt == name] = planted.unusual(name)
    return found


def settings(name, *more):
    return configuration.load({}, [f"study.estimator='{name}'", *more])


@pytest.fixture(scope="module")
def planted():
    return plant(SHARES)


WANTED = {
    "auto": (0.99, 1.0),
    "top_loss": (0.75, 0.97), "labels": (1.0, 1.0), "random": (0.4, 0.6),
    "reference": (0.4, 0.6), "none": (0.5, 0.5),
}  # fmt: skip


SCORES = {"auto": "contrast", "top_loss": "loss"}


@pytest.mark.parametrize("name", sorted(WANTED))
def test_each_estimator_beats_chance_where_it_should_and_only_there(planted, name, monkeypatch):
    distance = np.random.default_rng(0).normal(size=len(planted.prompt))
    monkeypatch.setattr(compared, "authors_score", lambda passes, rows: distance[rows])
    labels = tuple(np.where(planted.attribute, "one", "other"))
    found = estimate_groups(evidence_of(planted, labels=labels), settings(name))
    area = roc_auc_score(rare_of(planted), found.against)
    low, high = WANTED[name]
    assert low <= area <= high
    if name in INFERRING:
        assert all(verdict.found for verdict in found.verdicts.values())
        assert found.score == SCORES.get(name, "excess")


def test_without_an_effect_nothing_is_found():
    idle = plant({"a": 0.5, "b": 0.5}, count=200, gap=0.0, effect=0.0)
    found = estimate_groups(evidence_of(idle, effect=0.0), settings("auto"))
    assert not any(verdict.found for verdict in found.verdicts.values())
    assert all(verdict.note for verdict in found.verdicts.values())


def test_images_that_were_not_scored_are_carried_over_by_the_features(planted):
    scored = np.sort(np.random.default_rng(0).permutation(len(planted.prompt))[:500])
    found = estimate_groups(evidence_of(planted, scored), settings("top_loss"))
    unseen = np.setdiff1d(np.arange(len(planted.prompt)), scored)
    assert roc_auc_score(rare_of(planted)[unseen], found.against[unseen]) > 0.95


@pytest.mark.parametrize("name", ["auto", "top_loss"])
def test_a_prompt_without_scored_images_has_a_verdict_and_no_groups(planted, name):
    scored = np.flatnonzero(planted.prompt == "few")
    found = estimate_groups(evidence_of(planted, scored), settings(name))
    assert not found.verdicts["most"].found
    assert found.verdicts["few"].found
    assert set(found.models) == set(SHARES)


def test_the_top_loss_is_a_fifth(planted):
    found = estimate_groups(evidence_of(planted), settings("top_loss"))
    assert found.against.mean() == pytest.approx(0.2)
    assert "20%" in found.chosen
