"""Groups from what each image costs under every prompt."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from invdiff.core.discovery.estimators.contrast import (
    FITTED,
    LEAST_IN_LINE,
    SELF_TRAINED,
    SELF_TRAINED_MIXTURE,
    Judged,
    _best_of_line,
    contrast_estimator,
)
from invdiff.core.discovery.objective import max_step_objective, objective
from invdiff.core.discovery.prompt_contrasts import Contrasts
from invdiff.core.discovery.self_training import self_trained
from invdiff.core.discovery.shared_shift import fit_shared_shift_mixture
from tests.core.planted import contrast, plant

SHARES = {"even": 0.5, "few": 0.1, "many": 0.8, "most": 0.9}
SETTINGS = {"min_share": 0.02, "false_alarm": 0.01}


def search(planted, known, scored=None):
    rows = np.arange(len(planted.prompt)) if scored is None else scored
    features, prompt = planted.features, planted.prompt
    return contrast_estimator(
        lambda: known, planted.score[rows], features, rows, prompt, **SETTINGS
    )


@pytest.fixture(scope="module")
def planted():
    return plant(SHARES, count=200)


@pytest.fixture(scope="module")
def found(planted):
    return search(planted, contrast(planted, SHARES))


@pytest.mark.parametrize("name", ["few", "many", "most"])
def test_a_skewed_attribute_is_found_and_group_1_is_the_unusual_side(planted, found, name):
    verdict, inside = found.verdicts[name], planted.prompt == name
    assert verdict.found
    assert verdict.share == pytest.approx(min(SHARES[name], 1 - SHARES[name]), abs=0.02)
    assert ((found.against[inside] > 0.5) == planted.unusual(name)).mean() > 0.97


def test_an_even_prompt_is_watched_and_not_balanced(found):
    assert not found.verdicts["even"].found
    assert found.verdicts["even"].monitored
    assert "even already" in found.verdicts["even"].note


def test_an_attribute_that_is_no_cluster_of_the_features_is_found_all_the_same():
    """Two standard deviations apart, of which labels would make an area of 0.92."""
    spread = plant(SHARES, count=300, gap=2.0)
    found = search(spread, contrast(spread, SHARES))
    for name in ("few", "most"):
        inside = spread.prompt == name
        assert roc_auc_score(spread.unusual(name), found.against[inside]) > 0.88


def test_where_no_mixture_is_found_the_line_of_the_largest_objective_is(monkeypatch):
    monkeypatch.setattr(
        "invdiff.core.discovery.estimators.contrast.QUANTILES", ()
    )  # nothing to begin a mixture with
    shares = {"few": 0.1, "most": 0.9, "less": 0.15, "more": 0.9}
    skewed = plant(shares, count=300, gap=3.0)
    found = search(skewed, contrast(skewed, shares))
    assert found.chosen in (FITTED, SELF_TRAINED, SELF_TRAINED_MIXTURE)
    for name in shares:
        inside = skewed.prompt == name
        assert found.verdicts[name].found
        assert roc_auc_score(skewed.unusual(name), found.against[inside]) > 0.95


def shuffled(components, member, prompt):
    """A mixture that has settled somewhere else."""
    q, direction = fit_shared_shift_mixture(components, member, prompt)
    return np.random.default_rng(0).permutation(q), direction


def rough_line(monkeypatch, taught, mixture=shuffled, **named):
    """What was chosen, and the share of the rare images found, from few and weakly shifted ones."""
    monkeypatch.setattr("invdiff.core.discovery.estimators.contrast.QUANTILES", ())
    monkeypatch.setattr("invdiff.core.discovery.estimators.contrast.self_trained", taught)
    monkeypatch.setattr(
        "invdiff.core.discovery.estimators.contrast.fit_shared_shift_mixture", mixture
    )
    shares = {"few": 0.1, "most": 0.9, "less": 0.15, "more": 0.85, **named}
    skewed = plant(shares, count=600, width=60)
    rows = np.arange(0, 600 * len(shares), 6)
    found = search(skewed, contrast(skewed, shares, effect=0.4, rows=rows))
    assert [name for name, _ in found.ranking[:1]] in ([found.chosen], [])
    several = [name for name in shares if name not in named]
    unusual = np.isin(skewed.prompt, several)
    unusual[unusual] = np.concatenate([skewed.unusual(name) for name in several])
    return found, (found.against > 0.5)[unusual].mean()


def test_a_line_found_in_few_images_is_taught_by_all(monkeypatch):
    _, before = rough_line(monkeypatch, lambda components, member: member)
    found, share = rough_line(monkeypatch, self_trained)
    assert found.chosen == SELF_TRAINED  # and the mixture, which lies elsewhere, is refused
    assert before < 0.85
    assert share > 0.95


def test_a_line_that_teaching_leads_astray_stays(monkeypatch):
    shuffle = np.random.default_rng(0).permutation
    found, share = rough_line(monkeypatch, lambda components, member: shuffle(member))
    assert found.chosen == FITTED
    assert share > 0.7


def test_the_mixture_next_to_a_taught_line_leaves_prompts_that_name_the_attribute(monkeypatch):
    named = {"few, named": 1e-3, "most, named": 1 - 1e-3}
    found, share = rough_line(monkeypatch, self_trained, fit_shared_shift_mixture, **named)
    assert found.chosen == SELF_TRAINED_MIXTURE
    assert share > 0.9
    for name in named:
        assert not found.verdicts[name].found
        assert not 0.01 < found.verdicts[name].share < 0.99


@pytest.mark.parametrize(
    ("line", "taught", "mixture", "chosen"),
    [
        (0.95, 0.97, 0.98, SELF_TRAINED_MIXTURE),
        (0.90, 0.97, 0.98, SELF_TRAINED_MIXTURE),
        (0.95, 0.97, 0.96, SELF_TRAINED),
        (0.95, 0.90, 0.96, FITTED),
        (0.90, 0.97, 0.96, None),
        (0.90, 0.91, 0.99, None),
    ],
)
def test_which_of_line_taught_line_and_mixture_is_taken(line, taught, mixture, chosen):
    found = _best_of_line(
        Judged(FITTED, {}, line, 0.1, 0.1),
        Judged(SELF_TRAINED, {}, taught, 0.3, 0.3),
        Judged(SELF_TRAINED_MIXTURE, {}, mixture, 0.05, 0.05),
    )
    assert [one.name for one in found] == ([chosen] if chosen else [])
    assert [one.rank for one in found] == (
        [np.inf if chosen == SELF_TRAINED_MIXTURE else 0.1] if chosen else []
    )


def test_a_line_far_out_of_line_is_not_taught(monkeypatch):
    """Half of the draws on balanced faces have a line at 0.67, beside a mixture at 0.998."""
    found, _ = rough_line(monkeypatch, self_trained, fit_shared_shift_mixture)
    assert found.chosen in (SELF_TRAINED, SELF_TRAINED_MIXTURE)
    monkeypatch.setattr("invdiff.core.discovery.estimators.contrast.NEARLY", 1.01)
    found, _ = rough_line(monkeypatch, self_trained, fit_shared_shift_mixture)
    assert found.chosen == "no groups"


def test_images_that_were_not_compared_get_their_group_from_the_features(planted):
    rows = np.sort(np.random.default_rng(0).permutation(len(planted.prompt))[:500])
    some = search(planted, contrast(planted, SHARES, rows=rows[::2]), rows)
    unseen = np.setdiff1d(np.arange(len(planted.prompt)), rows)
    unseen = unseen[planted.prompt[unseen] == "few"]
    assert ((some.against[unseen] > 0.5) == planted.attribute[unseen]).mean() > 0.95


def test_where_the_prompts_have_the_same_shares_nothing_is_found():
    alarms = 0
    for seed in range(6):
        even = plant(dict.fromkeys(SHARES, 0.5), count=150, seed=seed, gap=5.0 * (seed % 2))
        shares = dict.fromkeys(SHARES, 0.5)
        alarms += any(v.found for v in search(even, contrast(even, shares)).verdicts.values())
    assert alarms == 0


def test_a_cost_that_does_not_go_with_the_shares_is_no_finding(planted):
    """The same look, but the prompts that have it cost more with it."""
    turned = search(planted, contrast(planted, SHARES, effect=-1.0))
    assert not any(verdict.monitored for verdict in turned.verdicts.values())
    assert len({verdict.note for verdict in turned.verdicts.values()}) == 1


def test_a_single_prompt_asks_for_no_contrasts():
    alone = plant({"a": 0.1}, count=50)
    rows = np.arange(50)

    def ask():
        raise AssertionError("there is nothing to compare")

    found = contrast_estimator(ask, alone.score, alone.features, rows, alone.prompt, **SETTINGS)
    assert not found.verdicts["a"].found
    assert found.against.sum() == 0


# The rule


def in_line(shares, cost, levels=2):
    """What the rule says of groups with these shares and costs under each of some prompts."""
    names = tuple(f"p{k}" for k in range(len(shares)))
    prompt = np.repeat(names, 100)
    q = np.concatenate([np.arange(100) < round(100 * share) for share in shares]) * 1.0
    losses = q[:, None, None] * np.array(cost)[None, :, None] * np.ones(levels)
    return Contrasts(losses, names, np.arange(len(q))).log_odds_alignment(q, prompt)


def test_shifts_that_are_minus_the_log_odds_are_in_line_and_others_are_not():
    shares = np.array([0.1, 0.3, 0.5, 0.8])
    odds = np.log(shares / (1 - shares))
    assert in_line(shares, -0.2 * odds) == pytest.approx(1)
    assert in_line(shares, 5 - 0.2 * odds) == pytest.approx(1)  # what all prompts share is out
    assert in_line(1 - shares, 0.2 * odds) == pytest.approx(1)  # names do not matter
    assert in_line(shares, 0.2 * odds) == pytest.approx(-1)
    assert in_line(shares, -odds[[1, 0, 3, 2]]) < LEAST_IN_LINE


def test_groups_that_only_one_prompt_has_or_all_alike_are_not_in_line():
    assert in_line([0.0, 0.0, 0.4], [1.0, 1.0, -1.0]) == 0
    assert in_line([0.25, 0.25, 0.3], [0.1, 0.1, -0.2]) == 0


def test_prompts_of_one_group_are_in_line_if_their_shift_is_that_of_a_large_share():
    shares = np.array([0.1, 0.3, 0.5, 0.8, 0.0, 0.0, 1.0, 1.0])
    odds = np.log(shares[:4] / (1 - shares[:4]))
    assert in_line(shares, -0.2 * np.append(odds, [-9, -5, 5, 9])) == pytest.approx(1)
    assert in_line(shares, -0.2 * np.append(odds, [-2, -5, 5, 2])) > 0.99  # learnt in part
    assert in_line(shares, -0.2 * np.append(odds, [9, 5, -5, -9])) < 0
    assert in_line(shares, -0.2 * np.append(odds, [0, 0, 0, 0])) < LEAST_IN_LINE
    two = [0.1, 0.9, 0.0, 0.0, 1.0, 1.0]  # two prompts are always in line with each other
    assert in_line(two, -0.2 * np.array([-2.2, 2.2, -9, -5, 5, 9])) == 0


@pytest.fixture(scope="module")
def with_explicit():
    """Two of the prompts once more, with the attribute named: one value of it only."""
    known = SHARES | {"few, named": 0.0, "most, named": 1.0, "many, named": 1.0}
    some = plant({name: np.clip(share, 1e-3, 1 - 1e-3) for name, share in known.items()}, count=200)
    shares = {name: np.clip(share, 0.02, 0.98) for name, share in known.items()}
    return some, search(some, contrast(some, shares))


def test_a_prompt_that_names_the_attribute_is_left_alone(with_explicit):
    _, found = with_explicit
    for name in ("few, named", "most, named", "many, named"):
        assert not found.verdicts[name].found
        assert "nothing to balance" in found.verdicts[name].note


def test_beside_prompts_that_name_it_the_others_are_balanced_as_before(with_explicit):
    planted, found = with_explicit
    for name in ("few", "many", "most"):
        assert found.verdicts[name].found
        inside = planted.prompt == name
        assert ((found.against[inside] > 0.5) == planted.unusual(name)).mean() > 0.97


def test_a_level_at_which_the_groups_hardly_differ_says_nothing(planted):
    """A plain attribute is seen through less noise: the prompt then changes nothing but by chance.

    Without the rule what is left there, out of line, would refuse the groups of every level.
    """
    known = contrast(planted, SHARES, effect=2.0)
    q = planted.attribute * 1.0
    losses = known.losses.copy()
    losses[:, :, 1] *= -0.01
    assert replace(known, losses=losses).log_odds_alignment(q, planted.prompt) > LEAST_IN_LINE
    losses[:, :, 1] *= 10
    assert replace(known, losses=losses).log_odds_alignment(q, planted.prompt) < 0


def test_one_level_out_of_line_is_enough_to_refuse(planted):
    known = contrast(planted, SHARES, effect=2.0)
    q = planted.attribute * 1.0
    assert known.log_odds_alignment(q, planted.prompt) > LEAST_IN_LINE
    losses = known.losses.copy()
    losses[:, :, 1] *= -1
    assert replace(known, losses=losses).log_odds_alignment(q, planted.prompt) < 0


def test_the_spaces_know_no_difficulty(planted):
    known = contrast(planted, SHARES)
    harder = replace(known, losses=known.losses + np.arange(len(planted.prompt))[:, None, None])
    for (name, one), (other, same) in zip(known.spaces(), harder.spaces(), strict=True):
        assert name == other
        np.testing.assert_allclose(one, same, atol=1e-6)
        np.testing.assert_allclose(one.std(0), 1, atol=1e-6)
    shapes = [space.shape[1] for _, space in known.spaces()]
    assert shapes == [3, 3, 3, 9]  # every level of contrasts by itself, then all of them


def test_a_group_that_one_prompt_lacks_is_worth_only_what_the_others_tell(planted):
    """Else what is a prompt's own content would beat the attribute behind it."""
    q, score, prompt = planted.attribute * 1.0, planted.score, planted.prompt
    whole = max_step_objective(q, score, prompt, 0.02)
    assert whole == pytest.approx(objective(q, score, prompt, 0.02))
    lacking = np.where(prompt == "most", 1.0, q)
    assert (
        objective(lacking, score, prompt, 0.02)
        > max_step_objective(lacking, score, prompt, 0.02)
        > 0
    )
    assert max_step_objective(np.zeros(len(q)), score, prompt, 0.02) == 0
