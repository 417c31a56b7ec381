"""Which noise levels a training step looks at."""

import torch

from invdiff.engine.distributed import randomness


def stratified_levels(count: int, focus: float, owner: torch.Generator) -> torch.Tensor:
    """Noise levels in (0, 1], one from each of ``count`` equal slices of their distribution.

    The density is proportional to level^(focus - 1): 1 is even, more prefers high noise, where a
    bias is decided. Stratified, because the level explains most of the variance of a loss.
    """
    uniform = (torch.arange(count) + torch.rand(count, generator=owner)) / count
    return uniform[torch.randperm(count, generator=owner)] ** (1 / focus)


def step_owner(seed: int, step: int) -> torch.Generator:
    """The generator of everything that training step ``step`` draws."""
    return randomness.generator(seed, "train", step)
