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
def test_a_loss_is_that_of_v_whoever_predicts(kind, steps, shape):
    """An error of v, computed directly, against the weighted error of the clean latent."""
    clean, noise, timestep = picture(steps, shape)
    wrong = picture(steps, shape, seed=1)[0]
    schedule = Schedule(SQUARES, kind)
    noisy = add_noise(schedule, clean, noise, timestep)
    square = SQUARES[timestep].view(-1, *[1] * (clean.ndim - 1))
    implied = (noisy - square.sqrt() * wrong) / (1 - square).sqrt()
    direct = spoken("v", wrong, implied, timestep) - spoken("v", clean, noise, timestep)
    found = clean_from_prediction(schedule, spoken(kind, wrong, implied, timestep), noisy, timestep)
    error = (found - clean).square().flatten(1).sum(1)
    weighted = loss_weight(schedule, timestep) * error
    torch.testing.assert_close(direct.square().flatten(1).sum(1), weighted, rtol=2e-3, atol=1e-3)


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
    assert loss_weight(schedule, timestep).isfinite().all()


@given(st.integers(2, 2000), st.floats(0.001, 1))
def test_a_level_is_a_fraction_of_the_schedule(timesteps, level):
    schedule = Schedule(torch.linspace(0.999, 0.01, timesteps), "v")
    step = schedule.timestep(level)
    assert 0 <= step < schedule.timesteps == timesteps
    assert abs(step - level * (timesteps - 1)) <= 0.5
    assert schedule.timestep(1.0) == timesteps - 1


def test_the_weight_keeps_high_noise():
    found = loss_weight(Schedule(SQUARES, "v"), torch.tensor([99]))
    assert found == pytest.approx(1 / 0.99, rel=1e-4)


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
    clean, noise, timestep = picture(steps, shape)
    velocity = picture(steps, shape, seed=1)[0]
    noisy = add_noise(FLOW, clean, noise, timestep)
    found = clean_from_prediction(FLOW, velocity, noisy, timestep)
    error = (found - clean).square().flatten(1).sum(1)
    direct = (velocity - (noise - clean)).square().flatten(1).sum(1)
    weighted = loss_weight(FLOW, timestep) * error
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
    assert loss_weight(FLOW, timestep).isfinite().all()
