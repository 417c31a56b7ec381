"""Predictions of the same picture agree in every parametrisation, and so do their losses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invdiff.core.diffusion.schedule import (
    Schedule,
    add_noise,
    clean_from_prediction,
    flow_schedule,
    loss_weight,
)

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


FLOW = flow_schedule(1000)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5), SHAPES)
def test_a_flow_goes_straight_from_the_latent_to_the_noise(steps, shape):
    clean, noise, timestep = picture(steps, shape)
    noisy = add_noise(FLOW, clean, noise, timestep)
    share = (timestep / 1000).view(-1, *[1] * (clean.ndim - 1))
    torch.testing.assert_close(noisy, (1 - share) * clean + share * noise, atol=2e-6, rtol=1e-5)
    found = clean_from_prediction(FLOW, noise - clean, noisy, timestep)
    torch.testing.assert_close(found, clean, atol=2e-6, rtol=1e-5)


@given(st.lists(st.integers(20, 990), min_size=1, max_size=5), SHAPES)
def test_the_loss_of_a_flow_in_v_space_is_that_of_its_velocity(steps, shape):
    """And in epsilon space that of the noise that the velocity implies."""
    clean, noise, timestep = picture(steps, shape)
    velocity = picture(steps, shape, seed=1)[0]
    noisy = add_noise(FLOW, clean, noise, timestep)
    found = clean_from_prediction(FLOW, velocity, noisy, timestep)
    error = (found - clean).square().flatten(1).sum(1)
    implied = noisy + (1 - timestep / 1000).view(-1, *[1] * (clean.ndim - 1)) * velocity
    for space, wrong in (("v", velocity - (noise - clean)), ("epsilon", implied - noise)):
        direct = wrong.square().flatten(1).sum(1)
        weighted = loss_weight(FLOW, space, timestep) * error
        torch.testing.assert_close(weighted, direct, rtol=1e-2, atol=1e-3)


@given(st.floats(0.001, 1))
def test_the_level_of_a_flow_is_its_share_of_noise(level):
    step = torch.tensor([FLOW.timestep(level)])
    signal, sigma = FLOW.factors(step, torch.zeros(1))
    assert abs(sigma.item() - level) <= 0.5e-3 + 1e-6
    assert signal.item() + sigma.item() == pytest.approx(1)


def test_nothing_of_a_flow_is_infinite_at_the_ends():
    clean, noise, timestep = picture([0, 1000], (4,))
    assert clean_from_prediction(FLOW, noise, clean, timestep).isfinite().all()
    for space in ("v", "epsilon", "x0"):
        assert loss_weight(FLOW, space, timestep).isfinite().all()
