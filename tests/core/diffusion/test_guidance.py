"""Strength and window: exact ends, the formula between, and which passes are needed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invdiff.core.diffusion.guidance import (
    coefficients,
    combine,
    conditional_half,
    noise_level,
    passes_needed,
    strength_at,
)
from invdiff.core.diffusion.schedule import Schedule


def _pair(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base, adapted = torch.randn(2, 5, 4, 3, 3, generator=generator).to(dtype)
    return base, adapted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_combine_is_exact_at_both_ends(dtype):
    base, adapted = _pair(dtype)
    assert torch.equal(combine(base, adapted, torch.zeros(1)), base)
    assert torch.equal(combine(base, adapted, torch.ones(1)), adapted)
    assert combine(base, adapted, torch.ones(1)).dtype == dtype


@given(st.floats(0, 3))
def test_combine_is_the_formula_between_and_beyond(strength):
    base, adapted = _pair()
    expected = base + strength * (adapted - base)
    result = combine(base, adapted, torch.tensor([strength]))
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_combine_takes_one_coefficient_a_sample():
    base, adapted = _pair()
    result = combine(base, adapted, torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]))
    assert torch.equal(result[::2], base[::2])
    assert torch.equal(result[1::2], adapted[1::2])


def test_coefficients_include_both_ends_of_the_window():
    level = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    assert coefficients(level, 2.0, (0.25, 0.75)).tolist() == [0, 2, 2, 2, 0]
    assert coefficients(level, 2.0, (0.0, 1.0)).tolist() == [2] * 5


def test_a_strength_may_follow_the_level():
    level = torch.tensor([0.0, 0.25, 1.0])
    assert strength_at(level, -1.5).tolist() == [-1.5] * 3
    assert strength_at(level, lambda x: 2 * x).tolist() == [0, 0.5, 2]
    assert strength_at(level, [1.0, 3.0]).tolist() == [1, 1.5, 3]
    assert strength_at(level, (0.0, 1.0, 0.0)).tolist() == [0, 0.5, 0]
    assert coefficients(level, [1.0, 3.0], (0.2, 1.0)).tolist() == [0, 1.5, 3]


def test_outside_the_window_the_coefficient_is_zero_whatever_the_strength():
    level = torch.tensor([0.0, 1.0])
    assert coefficients(level, lambda x: 1 / x if x else float("inf"), (0.5, 1.0)).tolist() == [
        0,
        1,
    ]


def test_below_zero_the_correction_is_mirrored():
    base, adapted = _pair()
    mirrored = combine(base, adapted, torch.full((len(base),), -1.0))
    torch.testing.assert_close(mirrored - base, base - adapted)


@given(st.floats(0.01, 1))
def test_noise_level_inverts_the_schedule(level):
    schedule = Schedule(torch.linspace(0.99, 0.01, 1000), "v")
    timestep = torch.tensor([schedule.timestep(level)])
    assert abs(float(noise_level(timestep, schedule.timesteps - 1)) - level) <= 0.5 / 999 + 1e-6


def test_noise_level_ends_and_flow_models():
    assert noise_level(torch.tensor([0, 999, 1000]), 999).tolist() == [0, 1, 1]
    assert noise_level(torch.tensor([0.25, 1.0]), 1.0).tolist() == [0.25, 1.0]


def test_conditional_half_spares_the_first_half():
    assert conditional_half(torch.full((4,), 1.5)).tolist() == [0, 0, 1.5, 1.5]


@pytest.mark.parametrize(
    ("values", "passes"),
    [([0, 0], "base"), ([1, 1], "adapted"), ([0, 1], "both"), ([0.5], "both"), ([1.5], "both")],
)
def test_passes_needed(values, passes):
    assert passes_needed(torch.tensor(values, dtype=torch.float32)) == passes
