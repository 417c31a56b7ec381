"""Guided prediction f = f_base + s g(level) (f_adapted - f_base): strength s, window g.

InvDiff (arXiv 2412.08480), section 3, adds a learned correction to the frozen denoiser; strength
and window are ours: a bias is decided at high noise, detail at low noise, so the correction may be
applied to a part of the levels only. Levels are fractions of the schedule: 0 clean, 1 pure noise.

A strength is one number; or a function of the level; or a sequence of numbers, at levels evenly
spaced from 0 to 1, linear between them. Below 0 the correction is mirrored.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Passes = Literal["base", "adapted", "both"]
Strength = float | int | Callable[[float], float] | Sequence[float]


def noise_level(
    timestep: Shaped[Tensor, " sample"], highest: float | int
) -> Float[Tensor, " sample"]:
    """Level in [0, 1] of a timestep in [0, highest]; the inverse of `Schedule.timestep`.

    The highest timestep of a discrete schedule is 999 where there are 1000 of them. Denoisers of
    flows are called with levels (highest 1) or thousandths (1000).
    """
    return (timestep.float() / highest).clamp(0, 1)


def strength_at(level: Float[Tensor, " sample"], strength: Strength) -> Float[Tensor, " sample"]:
    """The strength at each noise level, from any of the three forms."""
    if isinstance(strength, int | float):
        return torch.full_like(level, strength)
    if callable(strength):
        return level.new_tensor([float(strength(each)) for each in level.tolist()])
    known = np.linspace(0, 1, len(strength))
    return level.new_tensor(np.interp(level.tolist(), known, strength))


def coefficients(
    level: Float[Tensor, " sample"], strength: Strength, window: tuple[float, float]
) -> Float[Tensor, " sample"]:
    """Coefficient c = s(level) g(level): the strength within [start, stop] and its ends, else 0."""
    start, stop = window
    inside = (level >= start) & (level <= stop)
    return torch.where(inside, strength_at(level, strength), 0.0)


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

    Computed in float32, returned in the type of `base`. Above 1 it extrapolates, below 0 mirrors.
    """
    shape = (-1,) + (1,) * (base.ndim - 1)
    weight = coefficient.to(base.device, torch.float32).view(shape)
    return torch.lerp(base.float(), adapted.float(), weight).to(base.dtype)
