"""Objectives of the min step that exist to be compared with."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from invdiff.core.diffusion.schedule import Schedule, variances
from invdiff.engine.training.mixture import PerGroup, Risks

DRO_STEP = 0.1  # how fast GroupDRO moves to the group with the higher risk


def worst_case_shares(
    total: Float[np.ndarray, " group"], shares: Float[np.ndarray, " group"], step: float
) -> Float[np.ndarray, " group"]:
    """The mixture of GroupDRO (Sagawa et al. 2020): u_e exp(step * sum of the risks seen so far).

    Exponentiated gradient ascent on max_q sum q_e L_e. It weighs plain risks: where a group is
    harder to denoise whatever is learnt, it ends with that group alone, as the plain form does.
    """
    grown = shares * np.exp(step * (total - total.max()))
    return grown / grown.sum()


def _group_dro(known: PerGroup, total: PerGroup, aimed: PerGroup, weight: float) -> PerGroup:
    return worst_case_shares(total, aimed, DRO_STEP)


def epsilon_weight(schedule: Schedule, timestep: torch.Tensor) -> torch.Tensor:
    """What a squared error of the clean latent weighs, so that the loss is that of epsilon."""
    signal, noise = variances(schedule, timestep)
    return signal / noise


PLAIN = Risks(over_base=False)
COMPARED = {
    "plain": PLAIN,
    "groupdro": replace(PLAIN, mix=_group_dro),
    "pooled": PLAIN,
    "reference": replace(PLAIN, weight=epsilon_weight),
}
"""Plain risks for regrets, the worst mixture, and the authors' code with our loss and with its own.

The last two balance all prompts as one (:attr:`StudySection.pooled`).
"""
