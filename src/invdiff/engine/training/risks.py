"""What the risks of the groups are, and what they make of the mixture that is trained on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from invdiff.core.balancing.reweighting import mixture_shares
from invdiff.core.diffusion.schedule import Schedule, loss_weight

PerGroup = Float[np.ndarray, " group"]
Tilt = Callable[[PerGroup, PerGroup, PerGroup, float], PerGroup]


def tilted(known: PerGroup, total: PerGroup, aimed: PerGroup, weight: float) -> PerGroup:
    """The shares of one prompt's groups: those ``aimed`` at, tilted towards the higher risk.

    ``known`` are the running risks and ``total`` the sums of those seen so far; ``weight`` is
    lambda.
    """
    return mixture_shares(known, aimed, weight)


@dataclass(frozen=True)
class Risks:
    """An objective of the min step.

    A risk counts ``over_base``, the frozen model's taken off (a regret), or as it is. ``weight`` is
    what a squared error of the clean latent weighs at a timestep.
    """

    over_base: bool = True
    mix: Tilt = tilted
    weight: Callable[[Schedule, torch.Tensor], torch.Tensor] = loss_weight


RISKS: dict[str, Risks] = {"regret": Risks()}
"""Objective by name; those that exist to be compared with register themselves."""
