"""Groups by other ways than the default's: each finds what it can see, and fails where it can't."""

import numpy as np
import pytest
import torch

from invdiff.core.discovery import objective
from invdiff.core.discovery.estimators import amortised
from invdiff.core.discovery.estimators.score_only import (
    LEAST_GAIN,
    main_direction,
    top_share,
    two_components,
)
from tests.core.planted import plant

SHARES = {"few": 0.1, "most": 0.9}


def balanced_accuracy(found, truth):
    return 0.5 * (found[truth].mean() + (1 - found)[~truth].mean())


def unusual(planted):
    found = np.zeros(len(planted.prompt), bool)
    for name in np.unique(planted.prompt):
        found[planted.prompt == name] = planted.unusual(name)
    return found


# The plain loss


def test_the_top_share_is_that_of_each_prompt():
    loss = np.concatenate([np.arange(10.0), 100 + np.arange(20.0)])
    member = top_share(loss, np.repeat(["a", "b"], [10, 20]), 0.2)
    assert np.flatnonzero(member).tolist() == [8, 9, 26, 27, 28, 29]


@pytest.mark.parametrize(("effect", "low", "high"), [(4.0, 0.85, 1.0), (0.0, 0.42, 0.58)])
def test_the_top_of_the_loss_finds_what_the_loss_shows(effect, low, high):
    planted = plant(SHARES, effect=effect)
    found = top_share(planted.score, planted.prompt, 0.2)
    assert low < balanced_accuracy(found * 1.0, unusual(planted)) < high


# The profile


def profile(planted, effect, seed=0):
    """High noise costs the unusual images more, middle noise less; a noisy, idle level besides."""
    random = np.random.default_rng(seed)
    pattern = effect * np.array([1.0, -0.6, 0.1])
    noise = random.normal(size=(len(planted.prompt), 3)) * [0.5, 0.5, 0.9]
    return noise + np.outer(unusual(planted), pattern)


@pytest.mark.parametrize("name", SHARES)
def test_the_main_direction_finds_a_large_attribute_and_which_side_is_rare(name):
    planted = plant(SHARES)
    rows, truth = planted.prompt == name, planted.unusual(name)
    member, gain = two_components(main_direction(profile(planted, 4.0)[rows]))
    assert gain > LEAST_GAIN
    assert balanced_accuracy(member, truth) > 0.95
    turned, _ = two_components(main_direction(-profile(planted, 4.0)[rows]))
    np.testing.assert_allclose(turned, member, atol=1e-6)  # the tail decides, not the sign


def test_the_mean_over_levels_would_have_missed_it():
    planted = plant({"few": 0.1})
    seen = profile(planted, 4.0)[:, :2] * [0.6, 1.0]  # the two levels cancel
    member, gain = two_components(seen.mean(1))
    assert gain < LEAST_GAIN
    assert balanced_accuracy(member, unusual(planted)) < 0.6
    assert balanced_accuracy(two_components(main_direction(seen))[0], unusual(planted)) > 0.9


def test_without_an_attribute_a_second_component_gains_little():
    gains = []
    for seed in range(10):
        planted = plant({"few": 0.1}, seed=seed)
        gains.append(two_components(main_direction(profile(planted, 0.0, seed)))[1])
    assert max(gains) < LEAST_GAIN
    assert two_components(np.ones(20))[1] == 0


# The objective, trained end to end


def test_the_objective_is_the_one_that_candidates_are_ranked_by():
    planted = plant(SHARES, count=100)
    member = np.random.default_rng(0).random(len(planted.prompt)) * 0.5
    member += 0.4 * (planted.prompt == "few")
    rows = [planted.prompt == name for name in np.unique(planted.prompt)]
    q = [torch.from_numpy(member[r]) for r in rows]
    r = [torch.from_numpy(planted.score[r]) for r in rows]
    wanted = objective.objective(member, planted.score, planted.prompt, 0.02)
    assert amortised.worth(q, r).item() == pytest.approx(wanted)
    single = objective.objective(member[rows[0]], planted.score[rows[0]], np.full(100, "a"), 0.02)
    assert amortised.worth(q[:1], r[:1]).item() == pytest.approx(single)


def test_a_planted_attribute_is_found_by_training_on_the_objective():
    planted = plant(SHARES)
    found = amortised.cross_fitted(planted.features, planted.score, planted.prompt, 0)
    same = ((found > 0.5) == planted.attribute).mean()
    assert max(same, 1 - same) > 0.95, "one side is the attribute, in all folds and prompts"


def test_an_image_has_no_part_in_its_own_group():
    """In 40 dimensions of noise a fitted direction explains noise; a cross-fitted one does not."""
    random = np.random.default_rng(0)
    features, score = random.normal(size=(200, 40)), random.normal(size=200)
    prompt = np.repeat(["a", "b"], 100)
    fitted = amortised.fit(features, score, prompt)(features, prompt)
    crossed = amortised.cross_fitted(features, score, prompt, 0)
    explained = [objective.mean_explained(q, score, prompt, 0.02) for q in (fitted, crossed)]
    assert explained[0] > 0.1
    assert explained[1] < 0.02


def test_prompts_with_few_images_have_no_groups():
    random = np.random.default_rng(0)
    features, score = random.normal(size=(60, 4)), random.normal(size=60)
    prompt = np.repeat(["a", "b"], [51, 9])
    assert (amortised.cross_fitted(features, score, prompt, 0)[51:] == 0).all()
    assert (amortised.cross_fitted(features[51:], score[51:], prompt[51:], 0) == 0).all()
    model = amortised.fit(features[:51], score[:51], prompt[:51])
    assert ((model(features, prompt) > 0) & (model(features, prompt) < 1)).all()
