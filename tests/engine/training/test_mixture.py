"""Who is drawn, and towards what: weights from running regrets, targets under each condition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invdiff.core.balancing.reweighting import stable_target
from invdiff.core.diffusion.schedule import Schedule
from invdiff.engine.training import min_step, mixture
from invdiff.engine.training.mixture import Mixture, Regrets
from invdiff.studies.comparison import objectives

SCHEDULE = Schedule(torch.linspace(0.999, 0.001, 100), "v")
PROMPT = np.repeat(["a", "b"], [10, 20])
AGAINST = np.concatenate([np.arange(10) < 1, np.arange(20) < 15]) * 1.0


def made(balanced=("a",), pool=PROMPT, against=AGAINST):
    latents = torch.randn((30, 2, 3, 3), generator=torch.Generator().manual_seed(0))
    return Mixture(latents, PROMPT, pool, against, balanced)


def mass(weights, prompt, group):
    rows = prompt == PROMPT
    inside = weights.numpy()[rows]
    return float(inside @ (AGAINST[rows] == group) / inside.sum())


# Weights


def test_before_anything_was_seen_the_groups_are_even():
    weights = made().weights(Regrets(("a",)), 1.0)
    assert mass(weights, "a", 1) == pytest.approx(0.5)
    assert weights[10:].tolist() == [1.0] * 20, "nothing was found in b"


def test_an_aim_counts_where_nothing_had_to_be_balanced():
    weights = made().weights(Regrets(("a",)), 1.0, {"a": 0.4, "b": 0.6})
    assert mass(weights, "a", 1) == pytest.approx(0.4)
    assert mass(weights, "b", 1) == pytest.approx(0.6)


def test_another_mix_than_even_shares():
    found = replace(made(), wanted=0.3)
    assert mass(found.weights(Regrets(("a",)), 1.0), "a", 1) == pytest.approx(0.3)
    assert mass(found.weights(Regrets(("a",)), 1.0, {"a": 0.4}), "a", 1) == pytest.approx(0.4)


def test_the_worse_group_is_drawn_more_often():
    regrets = Regrets(("a", "b"))
    regrets.value[:] = [[0.0, 0.2], [0.1, 0.0]]
    weights = made(("a", "b")).weights(regrets, 1.0)
    assert mass(weights, "a", 1) == pytest.approx(0.6)
    assert mass(weights, "b", 1) == pytest.approx(0.45)
    even = made(("a", "b")).weights(regrets, 0.0)
    assert mass(even, "a", 1) == pytest.approx(0.5)


def test_groupdro_goes_by_the_sums_of_the_risks(monkeypatch):
    regrets = Regrets(("a",))
    regrets.value[:] = [[9.0, 0.0]]
    regrets.total[:] = [[0.0, np.log(3)]]
    monkeypatch.setattr(objectives, "DRO_STEP", 1.0)
    mix = objectives.COMPARED["groupdro"].mix
    assert mass(made().weights(regrets, 1.0, mix=mix), "a", 1) == pytest.approx(0.75)


def test_prompts_keep_their_shares_of_the_data():
    regrets = Regrets(("a", "b"))
    regrets.value[:] = [[0.0, 0.3], [0.2, 0.0]]
    weights = made(("a", "b")).weights(regrets, 1.0)
    assert weights[:10].mean() == pytest.approx(1)
    assert weights[10:].mean() == pytest.approx(1)


def test_a_group_that_was_not_seen_yet_tilts_nothing():
    regrets = Regrets(("a",))
    regrets.value[:] = [[5.0, np.nan]]
    assert mass(made().weights(regrets, 10.0), "a", 1) == pytest.approx(0.5)


def test_the_authors_recipe_balances_over_all_prompts_at_once():
    """1 of 10 and 15 of 20 are 16 of 30: nearly even together, so hardly anything happens."""
    weights = made(("*",), pool=np.full(30, "*")).weights(Regrets(("*",)), 0.0)
    assert float(weights @ torch.from_numpy(AGAINST).float() / 30) == pytest.approx(0.5)
    assert mass(weights, "a", 1) < 0.12


# Running regrets


def test_regrets_are_running_means_of_each_prompts_groups():
    regrets = Regrets(("a", "b"), memory=0.75)
    prompt, against = np.array(["a", "a", "b", "c"]), np.array([0.0, 1.0, 1.0, 1.0])
    regrets.update(np.array([1.0, 2.0, 4.0, 99.0]), prompt, against)
    np.testing.assert_equal(regrets.value, [[1, 2], [np.nan, 4]])
    regrets.update(np.array([5.0, 2.0, 0.0, 99.0]), prompt, against)
    np.testing.assert_allclose(regrets.value, [[2, 2], [np.nan, 3]])
    np.testing.assert_allclose(regrets.total, [[6, 4], [0, 4]])


def test_soft_members_count_by_their_share():
    regrets = Regrets(("a",))
    regrets.update(np.array([1.0, 2.0]), np.array(["a", "a"]), np.array([0.25, 0.75]))
    assert regrets.value[0] == pytest.approx([1.25, 1.75])


def test_next_to_nobody_says_nothing_about_a_group():
    regrets = Regrets(("a",))
    regrets.update(np.array([1.0, 2.0]), np.array(["a", "a"]), np.array([0.01, 0.02]))
    assert np.isnan(regrets.value[0, 1])
    assert regrets.value[0, 0] == pytest.approx(1.5, abs=0.01)


# Targets


def target(found, chosen, dropped, weights=None, step=80):
    noisy = torch.randn((4, 2, 3, 3), generator=torch.Generator().manual_seed(1))[: len(chosen)]
    weights = torch.ones(30) if weights is None else weights
    chosen, timestep = torch.tensor(chosen), torch.full((len(chosen),), step)
    owner = torch.Generator().manual_seed(2)
    wanted = found.target(SCHEDULE, noisy, timestep, chosen, torch.tensor(dropped), weights, owner)
    return noisy, timestep, wanted


def test_a_target_looks_back_on_its_own_prompt_or_on_everything():
    found = made()
    weights = torch.linspace(0.1, 2, 30)
    dropped = [False, True, False, True]
    noisy, timestep, wanted = target(found, [2, 3, 25, 26], dropped, weights)
    spans = [slice(0, 10), slice(0, 30), slice(10, 30), slice(0, 30)]
    for row, span in enumerate(spans):
        one = slice(row, row + 1)
        alone = stable_target(
            SCHEDULE, noisy[one], timestep[one], found.latents[span], weights[span].log()
        )
        torch.testing.assert_close(wanted[one], alone)


def test_a_target_does_not_depend_on_the_rest_of_the_batch():
    found = made()
    noisy, _, together = target(found, [2, 3, 25, 26], [False, True, False, True])
    alone_noisy, _, alone = target(found, [2, 3], [False, True])
    assert torch.equal(noisy[:2], alone_noisy)
    torch.testing.assert_close(alone, together[:2])
    assert together.shape == (4, 2, 3, 3)


def test_an_image_that_is_never_drawn_is_never_a_source():
    weights = torch.ones(30)
    weights[5:10] = 0
    found = made()
    _, _, wanted = target(found, [1], [False], weights)
    found.latents[5:10] = 1e3
    _, _, moved = target(found, [1], [False], weights)
    torch.testing.assert_close(wanted, moved)


# The random part of very many images


@given(st.integers(1, 60), st.sets(st.integers(0, 59), min_size=1, max_size=8))
def test_the_references_are_few_and_hold_the_noised_images(limit, chosen):
    known, own = torch.arange(60) * 2, torch.tensor(sorted(chosen)) * 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixture, "REFERENCES", max(limit, len(own)))
        found = mixture._limited(known, own, torch.Generator().manual_seed(0))
    assert len(found) <= max(limit, len(own))
    assert set(own.tolist()) <= set(found.tolist()) <= set(known.tolist())
    assert len(set(found.tolist())) == len(found)


def test_all_images_are_references_where_they_are_not_too_many():
    known = torch.arange(50)
    found = mixture._limited(known, torch.tensor([3, 3]), torch.Generator())
    assert found is known


# Levels


@given(st.integers(1, 64), st.floats(1, 4), st.integers(0, 1000))
def test_every_slice_of_the_levels_is_drawn_once(count, focus, seed):
    levels = min_step.stratified_levels(count, focus, torch.Generator().manual_seed(seed))
    slices = (levels.double() ** focus * count).clamp(0, count - 1e-3)
    near = torch.sort(slices).values - torch.arange(count)
    assert (near > -0.01).all()
    assert (near < 1.01).all()
    assert ((levels >= 0) & (levels <= 1)).all()


@pytest.mark.parametrize("focus", [1.0, 2.0, 3.0])
def test_more_focus_prefers_high_noise(focus):
    """Density proportional to level^(focus - 1): the mean level is focus / (focus + 1)."""
    levels = min_step.stratified_levels(2000, focus, torch.Generator().manual_seed(0))
    assert levels.mean().item() == pytest.approx(focus / (focus + 1), abs=1e-3)


def test_the_order_of_the_levels_is_shuffled():
    levels = min_step.stratified_levels(64, 1.0, torch.Generator().manual_seed(0))
    correlation = np.corrcoef(levels.numpy(), np.arange(64))[0, 1]
    assert abs(correlation) < 0.4


def test_a_step_owns_its_draws():
    draws = [torch.rand(1, generator=min_step.step_owner(0, step)).item() for step in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]
