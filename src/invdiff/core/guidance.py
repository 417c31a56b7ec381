"""Guided prediction f = f_base + s g(level) (f_adapted - f_base): strength s, window g.

InvDiff (arXiv 2412.08480), section 3, adds a learned correction to the frozen denoiser; strength
and window are ours: a bias is decided at high noise, detail at low noise, so the correction may be
applied to a part of the levels only. Levels are fractions of the schedule: 0 clean, 1 pure noise.
"""

from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Passes = Literal["base", "adapted", "both"]


def noise_level(
    timestep: Shaped[Tensor, " sample"], timesteps: float | int
) -> Float[Tensor, " sample"]:
    """Level in [0, 1] of a timestep in [0, timesteps]; the inverse of `Schedule.timestep`.

    The highest level of a discrete schedule is its last timestep, `timesteps - 1`; with
    `timesteps == 1` the timestep is a level already (flow models).
    """
    highest = timesteps - 1 if timesteps > 1 else 1.0
    return (timestep.float() / highest).clamp(0, 1)


def coefficients(
    level: Float[Tensor, " sample"], strength: float, window: tuple[float, float]
) -> Float[Tensor, " sample"]:
    """Coefficient c = s g(level): the strength within [start, stop], ends included, else 0."""
    start, stop = window
    inside = (level >= start) & (level <= stop)
    return inside.float() * strength


def conditional_half(coefficient: Float[Tensor, " sample"]) -> Float[Tensor, " sample"]:
    """Coefficients of a [unconditional, conditional] batch, 0 in its first half."""
    half = len(coefficient) // 2
    return torch.cat([torch.zeros_like(coefficient[:half]), coefficient[half:]])


def passes_needed(coefficient: Float[Tensor, " sample"]) -> Passes:
    """One pass where every coefficient is 0 (base) or every one is 1 (adapted), else both."""
    if bool((coefficient == 0).all()):
        return "base"
    return "adapted" if bool((coefficient == 1).all()) else "both"


def combine(
    base: Float[Tensor, "sample ..."],
    adapted: Float[Tensor, "sample ..."],
    coefficient: Float[Tensor, " #sample"],
) -> Float[Tensor, "sample ..."]:
    """Prediction base + c (adapted - base); exactly base at c = 0, exactly adapted at c = 1.

    Computed in float32, returned in the type of `base`. Above 1 it extrapolates.
    """
    shape = (-1,) + (1,) * (base.ndim - 1)
    weight = coefficient.to(base.device, torch.float32).view(shape)
    return torch.lerp(base.float(), adapted.float(), weight).to(base.dtype)
