"""The max step finds a planted attribute, and says so when there is nothing to balance."""

import numpy as np
import pytest

from invdiff.core.discovery import grouping, objective, refinement, verdict
from invdiff.core.discovery.candidates import Candidate
from invdiff.core.discovery.estimators import semantic
from invdiff.core.groups.two_groups import GroupModel
from tests.core.planted import plant

SHARES = {"even": 0.5, "few": 0.1, "most": 0.9}


def search(planted, scored=None, min_share=0.02, seed=0):
    rows = np.arange(len(planted.prompt)) if scored is None else scored
    return semantic.semantic(
        planted.score[rows],
        planted.features,
        rows,
        planted.prompt,
        min_share=min_share,
        false_alarm=0.01,
        seed=seed,
    )


@pytest.fixture(scope="module")
def planted():
    return plant(SHARES)


@pytest.fixture(scope="module")
def found(planted):
    return search(planted)


@pytest.mark.parametrize("name", ["few", "most"])
def test_a_planted_attribute_is_found_and_group_1_is_the_unusual_side(planted, found, name):
    verdict = found.verdicts[name]
    assert verdict.found
    assert verdict.note == ""
    assert verdict.p_value < 0.01
    assert verdict.share == pytest.approx(0.1, abs=0.02)
    inside = found.against[planted.prompt == name] > 0.5
    assert (inside == planted.unusual(name)).mean() > 0.97


def test_an_even_prompt_has_nothing_to_balance(found):
    verdict = found.verdicts["even"]
    assert not verdict.found
    assert "nothing to balance" in verdict.note


def test_what_comes_back_is_consistent(planted, found):
    assert ((found.against >= 0) & (found.against <= 1)).all()
    again = grouping.apply(found.models, planted.features, planted.prompt)
    np.testing.assert_array_equal(found.against, again)
    names, values = zip(*found.ranking, strict=True)
    assert found.chosen == names[0]
    assert sorted(values, reverse=True) == list(values)
    assert len(names) <= semantic.CARRIED_ON


def test_images_that_were_not_scored_get_their_group_from_the_features(planted):
    scored = np.sort(np.random.default_rng(0).permutation(len(planted.prompt))[:500])
    found = search(planted, scored)
    for name in ("few", "most"):
        rows = planted.prompt == name
        rows[scored] = False
        unusual = planted.attribute[rows] == (name == "few")
        assert ((found.against[rows] > 0.5) == unusual).mean() > 0.96


def test_the_same_images_in_another_order_give_the_same_groups(planted, found):
    order = np.random.default_rng(1).permutation(len(planted.prompt))
    turned = search(type(planted)(*(v[order] for v in vars(planted).values())))
    assert (
        verdict.group_agreement(found.against[order], turned.against, planted.prompt[order]) > 0.98
    )


def test_in_balanced_data_nothing_is_found():
    """Twenty sets of two prompts, every second one with an attribute; 0.4 alarms are expected."""
    alarms = 0
    for seed in range(20):
        even = plant({"a": 0.5, "b": 0.5}, count=150, seed=seed, gap=5.0 * (seed % 2))
        verdicts = search(even).verdicts.values()
        alarms += sum(verdict.found for verdict in verdicts)
        assert all(v.found or v.note for v in verdicts)
    assert alarms <= 1


def test_a_skew_the_score_says_nothing_about_is_no_finding():
    """Skewed alike under both prompts: the excess cancels, as the method says."""
    alarms = 0
    for seed in range(4):
        alike = plant({"a": 0.1, "b": 0.1}, count=150, seed=seed, effect=0.0)
        alarms += sum(verdict.found for verdict in search(alike).verdicts.values())
    assert alarms == 0


@pytest.mark.parametrize("count", [40, 60])
def test_a_small_set_is_searched_without_a_fault(count):
    for seed in range(3):
        small = plant({"a": 0.1}, count=count, seed=seed, gap=0.0)
        found = search(small)
        assert found.verdicts["a"].share == pytest.approx(found.against.mean(), abs=0.05)


# The objective


def test_the_tie_is_the_mutual_information_of_group_and_prompt():
    prompt = np.repeat(["a", "b"], [10, 40])
    member = np.concatenate([np.arange(10) < 1, np.arange(40) < 36]) * 1.0
    wanted = np.log(2) + 0.9 * np.log(0.9) + 0.1 * np.log(0.1)  # prompts count alike
    assert objective.prompt_mutual_information(member, prompt) == pytest.approx(wanted)
    alike = np.tile([0.0, 1.0], 25)
    assert objective.prompt_mutual_information(alike, prompt) == objective.LEAST_INFORMATION
    assert objective.prompt_mutual_information(member, np.full(50, "a")) == 1.0


def test_candidates_are_ranked_by_the_objective():
    planted = plant({"a": 0.1, "b": 0.9}, effect=4)
    lot = np.random.default_rng(0).random(len(planted.prompt)) < 0.3
    made = [Candidate("lot", lot), Candidate("truth", planted.attribute)]
    ranked = objective.rank(made, planted.score, planted.prompt, 0.02)
    assert [candidate.name for candidate, _ in ranked] == ["truth", "lot"]
    value = ranked[0][1]
    member = planted.attribute * 1.0
    parts = [
        objective.explained_variance(member[rows], planted.score[rows], 0.02)
        for rows in (planted.prompt == "a", planted.prompt == "b")
    ]
    assert value == pytest.approx(
        np.mean(parts) * objective.prompt_mutual_information(member, planted.prompt)
    )


# Which group is which


def test_group_1_is_the_one_that_costs_more():
    features = np.array([[-1.0], [-1], [-1], [1], [1], [1]])
    model = GroupModel(np.array([1.0]), (0.0, 5.0, 0.0), 0.0)
    prompt = np.full(6, "a")
    for score in (features[:, 0], -features[:, 0]):
        turned = grouping.orient({"a": model}, features, score, prompt)["a"]
        assert np.cov(turned(features), score)[0, 1] > 0
    few = grouping.orient({"a": model}, features[:2], -features[:2, 0], prompt[:2])
    assert few["a"] == model


def test_candidates_that_settle_to_the_same_groups_are_refined_once(planted, monkeypatch):
    truth, other = planted.attribute > 0, np.arange(len(planted.prompt)) % 3 == 0
    same = [Candidate(name, truth.copy()) for name in ("first", "second", "third")]
    monkeypatch.setattr(semantic, "cluster_candidates", lambda *_: [*same, Candidate("odd", other)])
    monkeypatch.setattr(semantic, "split_candidates", lambda *_: [])
    refined, refine = [], refinement.refine_boundary
    monkeypatch.setattr(
        refinement, "refine_boundary", lambda *given: refined.append(1) or refine(*given)
    )
    value = dict(search(planted).ranking)
    assert len(refined) == 2
    assert value["first"] == value["second"] == value["third"] > value["odd"]
