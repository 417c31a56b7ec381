"""The risks of the groups: what they are, their running means, the mixture they make."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from invdiff.core.balancing.reweighting import mixture_shares
from invdiff.core.diffusion.schedule import Schedule, loss_weight
from invdiff.core.groups.memberships import Membership, memberships

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


@dataclass
class Regrets:
    """Running means of what each group of each balanced prompt costs more than under the base.

    NaN until a group has been seen. ``total`` sums the risks up instead, for GroupDRO.
    """

    prompts: tuple[str, ...]
    memory: float = 0.9
    groups: int = 2
    value: np.ndarray = field(init=False)
    total: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros((len(self.prompts), self.groups))
        self.value = np.full((len(self.prompts), self.groups), np.nan)

    def update(self, losses: np.ndarray, prompt: np.ndarray, member: Membership) -> None:
        """Take in losses (n,) of images with the given prompts and memberships."""
        columns = memberships(member).T
        for row, name in enumerate(self.prompts):
            inside = prompt == name
            for group, q in enumerate(columns):
                mass = q[inside].sum()
                if mass > 0.5:
                    seen = float(q[inside] @ losses[inside] / mass)
                    old = self.value[row, group]
                    mixed = self.memory * old + (1 - self.memory) * seen
                    self.value[row, group] = seen if np.isnan(old) else mixed
                    self.total[row, group] += seen
