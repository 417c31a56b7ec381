"""Attributes that are tied to prompts, found among others that are not."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from invdiff.core.discovery.attributes import find_attributes
from invdiff.core.discovery.evidence import Contrasts, CostEvidence
from invdiff.core.discovery.grouping import RANKED_BY_CLEARNESS, infer_groups
from invdiff.core.discovery.mixture import fit_two_gaussians
from invdiff.core.discovery.objective import measure_memberships, mutual_information
from invdiff.core.discovery.verdict import Rules, judge_prompt
from tests.core.planted import contrast, plant, plant_several

SKEWED = {"one": 0.1, "two": 0.9, "three": 0.2, "four": 0.8}
SEVERAL = {  # shares of three attributes that are tied to the prompts and of one that is even
    "hat": (0.8, 0.5, 0.9, 0.5),
    "plain": (0.9, 0.7, 0.2, 0.5),
    "band": (0.5, 0.2, 0.7, 0.5),
    "glasses": (0.1, 0.5, 0.3, 0.5),
}


def searched(shares, count=300, seed=0, gap=3.0, effect=0.5):
    data = plant(shares, count, seed, gap)
    given = contrast(data, shares, effect, seed)
    return data, find_attributes(data.features, data.prompt, given, seed)


@pytest.mark.parametrize("skew", [0.8, 0.7])
def test_a_skew_is_found_with_its_shares(skew):
    shares = {"one": skew, "two": 1 - skew, "three": skew, "four": 1 - skew}
    data, found = searched(shares)
    first = found[0]
    assert first.certain(0.01)
    assert first.tied
    turned = np.corrcoef(first.q, data.attribute)[0, 1] > 0
    q, share = (first.q, first.share) if turned else (1 - first.q, 1 - first.share)
    assert roc_auc_score(data.attribute, q) > 0.97
    wanted = [data.attribute[data.prompt == name].mean() for name in first.prompts]
    assert share == pytest.approx(wanted, abs=0.08)


def test_all_tied_attributes_are_found_each_alone_and_the_even_one_is_not_tied():
    features, contrasts, prompt, attributes = plant_several(SEVERAL, 500, gaps=(4.5, 3.5, 6, 6))
    found = [one for one in find_attributes(features, prompt, contrasts, 0) if one.certain(0.01)]
    tied = [one for one in found if one.tied]
    for number in range(3):
        areas = [roc_auc_score(attributes[:, number], one.q) for one in tied]
        assert max(max(area, 1 - area) for area in areas) > 0.95
    even = {one.id: abs(roc_auc_score(attributes[:, 3], one.q) - 0.5) for one in found}
    assert all(even[one.id] < 0.2 for one in tied)


@pytest.mark.parametrize("seed", range(3))
def test_equal_shares_under_all_prompts_are_not_tied(seed):
    even = dict.fromkeys(SKEWED, 0.5)
    _, found = searched(even, seed=seed)
    assert not [one for one in found if one.tied and one.certain(0.01)]


def test_a_second_run_gives_an_attribute_the_same_name():
    first, second = (searched(SKEWED)[1][0] for _ in range(2))
    assert first.id == second.id
    np.testing.assert_array_equal(first.q, second.q)


def test_a_skew_that_all_prompts_share_is_read_off_the_loss():
    shares = dict.fromkeys(("a", "b", "c"), 0.1)
    data = plant(shares, 400, gap=6.0)
    random = np.random.default_rng(0)
    loss = random.normal(size=len(data.prompt)) + 2 * data.attribute
    nothing = Contrasts(random.normal(size=(1200, 3, 2)), ("a", "b", "c"), np.arange(1200))
    found = infer_groups(
        random.normal(size=1200), loss, lambda: nothing, data.features, np.arange(1200),
        data.prompt, min_share=0.02, false_alarm=0.01, seed=0,
    )  # fmt: skip
    assert found.score == "loss"
    assert found.ranked_by == RANKED_BY_CLEARNESS  # numbers of contrasts and of a loss compare
    assert dict(found.ranking) == {one.id: one.negentropy for one in found.attributes}
    together = np.corrcoef([one.q for one in found.attributes])
    assert abs(np.atleast_2d(together) - np.eye(len(found.attributes))).max() < 0.8  # none twice
    assert all(verdict.found for verdict in found.verdicts.values())
    for name in shares:
        rows = data.prompt == name  # the rare value costs more: it is group 1 under every prompt
        assert balanced_accuracy_score(data.attribute[rows], found.against[rows] > 0.5) > 0.97


def test_a_prompt_that_has_one_value_alone_is_left_alone():
    shares = {**SKEWED, "named": 0.001}
    data = plant(shares, 300)
    given = contrast(data, {**SKEWED, "named": 0.01}, 1.0)
    found = infer_groups(
        data.score, data.score, lambda: given, data.features, np.arange(1500), data.prompt,
        min_share=0.02, false_alarm=0.01, seed=0,
    )  # fmt: skip
    assert not found.verdicts["named"].found
    assert all(found.verdicts[name].found for name in SKEWED)


def test_two_groups_of_unlike_width_are_told_apart_along_a_direction():
    random = np.random.default_rng(0)
    truth = random.random(3000) < np.repeat([0.1, 0.6], 1500)
    values = np.where(truth, random.normal(4, 0.4, 3000), random.normal(0, 1.5, 3000))
    groups, q = fit_two_gaussians(values, np.repeat([0, 1], 1500), 2)
    assert groups.share == pytest.approx([0.1, 0.6], abs=0.03)
    assert ((q > 0.5) == truth).mean() > 0.97
    far = groups.log_ratio(np.array([-30.0, 30.0]))
    assert far[0] <= 0 <= far[1]


def test_negentropy_is_that_of_two_groups_and_not_of_unlike_widths_or_prompts():
    random = np.random.default_rng(0)
    prompt, side = np.repeat([0, 1], 3000), random.random(6000) < 0.5
    normal = random.normal(size=6000)

    def negentropy(values):
        return fit_two_gaussians(values, prompt, 2)[0].negentropy(values, prompt)

    # two far groups of one width: log 2 less than the entropy of one Gaussian of their spread
    gap = 10.0
    expected = np.log(np.sqrt(1 + gap**2 / 4)) - np.log(2)
    assert negentropy(normal + gap * side) == pytest.approx(expected, abs=0.02)
    assert abs(negentropy(normal)) < 0.01
    assert negentropy(normal * np.where(side, 1, 4)) < 0.02
    assert abs(negentropy(normal + gap * prompt)) < 0.01


def test_a_shift_is_tied_only_by_what_lies_along_the_log_odds():
    shares = np.array([0.2, 0.8])
    member = (np.arange(200) % 10 < 2) | (np.arange(200) >= 100) & (np.arange(200) % 10 < 8)
    odds = -np.log(shares / (1 - shares))
    prompt, rows = np.repeat(["a", "b"], 100), np.arange(200)
    levels = np.stack([odds, -2 * odds], 1)
    for kept, along in ((levels[:, :1], 1.0), (levels[:, 1:], 0.0), (levels, 0.2)):
        losses = np.einsum("r,pl->rpl", member * 1.0, kept)
        evidence = CostEvidence.of(np.zeros((200, 1)), prompt, Contrasts(losses, ("a", "b"), rows))
        assert measure_memberships(evidence, member * 1.0).along == pytest.approx(along)


def test_what_explains_all_of_the_costs_and_follows_the_log_odds_measures_one():
    shares = np.array([0.2, 0.8])
    member = (np.arange(200) % 10 < 2) | (np.arange(200) >= 100) & (np.arange(200) % 10 < 8)
    losses = -np.outer(member, np.log(shares / (1 - shares)))[:, :, None]
    prompt = np.repeat(["a", "b"], 100)
    evidence = CostEvidence.of(
        np.zeros((200, 1)), prompt, Contrasts(losses, ("a", "b"), np.arange(200))
    )
    found = measure_memberships(evidence, member * 1.0)
    assert found.explained == pytest.approx(1)
    assert found.alignment == pytest.approx((1.0,))
    assert found.information == pytest.approx(mutual_information(shares))
    assert measure_memberships(evidence, np.full(200, 0.5)).objective == 0


RULES = Rules(0.02, 0.01, 0.5)


@pytest.mark.parametrize(
    ("share", "wanted", "found", "monitored"),
    [
        (0.1, 0.5, True, True),
        (0.5, 0.5, False, True),
        (0.3, 0.3, False, True),
        (0.0, 0.5, False, False),
    ],
)
def test_what_is_wanted_decides_what_there_is_to_balance(share, wanted, found, monitored):
    _, attributes = searched(SKEWED)
    against = (np.arange(200) < 200 * share) * 1.0
    score, every = np.random.default_rng(0).normal(size=200), np.ones(200, bool)
    rules = Rules(0.02, 0.01, wanted)
    verdict = judge_prompt(against, score, np.arange(200), every, attributes[0], rules)
    assert (verdict.found, verdict.monitored) == (found, monitored)
    assert bool(verdict.note) != verdict.found
    without = judge_prompt(against, score, np.arange(200), every, None, RULES)
    assert not without.found
