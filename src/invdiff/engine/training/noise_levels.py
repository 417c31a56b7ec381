"""Which noise levels a training step looks at."""

import torch

from invdiff.core.diffusion.schedule import logit_normal
from invdiff.engine.distributed import randomness
from invdiff.engine.settings.training import TrainSection


def levels_of(section: TrainSection, owner: torch.Generator) -> torch.Tensor:
    """The noise levels of one batch, distributed as the settings say."""
    if section.level_density == "logit_normal":
        quantiles = _levels(section, 1.0, owner)
        return logit_normal(quantiles, section.logit_mean, section.logit_std)
    return _levels(section, section.level_focus, owner)


def _levels(section: TrainSection, focus: float, owner: torch.Generator) -> torch.Tensor:
    if section.level_sampling == "stratified":
        return stratified_levels(section.batch, focus, owner)
    draws = 1 if section.level_sampling == "shared" else section.batch
    uniform = 1 - torch.rand(draws, generator=owner)  # 0 is no noise level
    return uniform.expand(section.batch) ** (1 / focus)


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
