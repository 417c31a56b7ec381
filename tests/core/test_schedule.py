"""Predictions of the same picture agree in every parametrisation, and so do their losses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invdiff.core.schedule import Schedule, add_noise, clean_from_prediction, loss_weight

KINDS = ("epsilon", "v", "x0")
SQUARES = torch.linspace(0.999, 0.01, 100)
STEPS = st.lists(st.integers(0, 99), min_size=1, max_size=5)
SHAPES = st.sampled_from([(3,), (2, 4, 4)])


def picture(steps, shape, seed=0):
    owner = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn((2, len(steps), *shape), generator=owner)
    return clean, noise, torch.tensor(steps)


def spoken(kind, clean, noise, timestep):
    """What a perfect denoiser of this kind says."""
    square = SQUARES[timestep].view(-1, *[1] * (clean.ndim - 1))
    v = square.sqrt() * noise - (1 - square).sqrt() * clean
    return {"epsilon": noise, "v": v, "x0": clean}[kind]


@pytest.mark.parametrize("kind", KINDS)
@given(STEPS, SHAPES)
def test_every_kind_of_prediction_gives_the_clean_latent_back(kind, steps, shape):
    schedule = Schedule(SQUARES, kind)
    clean, noise, timestep = picture(steps, shape)
    noisy = add_noise(schedule, clean, noise, timestep)
    said = spoken(kind, clean, noise, timestep)
    found = clean_from_prediction(schedule, said, noisy, timestep)
    torch.testing.assert_close(found, clean, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@given(STEPS, SHAPES)
def test_a_loss_is_the_same_in_its_own_space_whoever_predicts(kind, steps, shape):
    """An error in the space, computed directly, against the weighted error of the clean latent."""
    clean, noise, timestep = picture(steps, shape)
    wrong = picture(steps, shape, seed=1)[0]
    schedule = Schedule(SQUARES, kind)
    noisy = add_noise(schedule, clean, noise, timestep)
    square = SQUARES[timestep].view(-1, *[1] * (clean.ndim - 1))
    implied = (noisy - square.sqrt() * wrong) / (1 - square).sqrt()
    for space in KINDS:
        direct = spoken(space, wrong, implied, timestep) - spoken(space, clean, noise, timestep)
        found = clean_from_prediction(
            schedule, spoken(kind, wrong, implied, timestep), noisy, timestep
        )
        weighted = loss_weight(schedule, space, timestep) * (found - clean).square().flatten(1).sum(
            1
        )
        torch.testing.assert_close(
            direct.square().flatten(1).sum(1), weighted, rtol=2e-3, atol=1e-3
        )


def test_noise_at_the_ends_of_the_schedule():
    schedule = Schedule(torch.tensor([1.0, 0.36, 0.0]), "v")
    clean, noise, timestep = picture([0, 1, 2], (4,))
    noisy = add_noise(schedule, clean, noise, timestep)
    torch.testing.assert_close(noisy[0], clean[0])
    torch.testing.assert_close(noisy[1], 0.6 * clean[1] + 0.8 * noise[1])
    torch.testing.assert_close(noisy[2], noise[2])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_infinite_at_the_ends(kind):
    schedule = Schedule(torch.tensor([1.0, 0.5, 0.0]), kind)
    clean, noise, timestep = picture([0, 1, 2], (4,))
    assert clean_from_prediction(schedule, noise, clean, timestep).isfinite().all()
    assert all(loss_weight(schedule, space, timestep).isfinite().all() for space in KINDS)


@given(st.integers(2, 2000), st.floats(0.001, 1))
def test_a_level_is_a_fraction_of_the_schedule(timesteps, level):
    schedule = Schedule(torch.linspace(0.999, 0.01, timesteps), "v")
    step = schedule.timestep(level)
    assert 0 <= step < schedule.timesteps == timesteps
    assert abs(step - level * (timesteps - 1)) <= 0.5
    assert schedule.timestep(1.0) == timesteps - 1


def test_epsilon_all_but_ignores_high_noise_and_v_does_not():
    schedule = Schedule(SQUARES, "v")
    low, high = torch.tensor([5]), torch.tensor([99])
    fall = {
        space: (loss_weight(schedule, space, high) / loss_weight(schedule, space, low)).item()
        for space in KINDS
    }
    assert fall["epsilon"] < 0.01 * fall["x0"] == 0.01
    assert loss_weight(schedule, "v", high) == pytest.approx(1 / 0.99, rel=1e-4)
    assert loss_weight(schedule, "epsilon", high) == pytest.approx(0.01 / 0.99, rel=1e-4)
