"""The min step: which mixture of the groups the guidance is trained on, and towards which target.

InvDiff (arXiv 2412.08480) minimises mean + lambda * variance of the group risks. Three things
differ from the paper's plain form (docs/concepts/how-groups-are-balanced.md says why): groups are
balanced *within* a prompt, the variance is taken over regrets, and the regression target is the
posterior mean over the training latents instead of the one latent that was noised.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from invdiff.core.diffusion.schedule import Schedule
from invdiff.core.groups.memberships import LEAST_MASS, Membership, memberships, present, within


def balanced_weights(
    member: Membership,
    prompt: np.ndarray,
    shares: dict[str, Float[np.ndarray, " group"]],
    certainty: float = 1.0,
) -> Float[np.ndarray, " sample"]:
    """Weights that give the groups of each prompt the masses ``shares[prompt]``.

    w_i = sum_e u_e r_i(e) / mean r(e), r = q_i(e) to the power ``certainty`` (1 in the paper, which
    has none). Prompts without an entry keep weight 1. The weights of a prompt average 1, so prompts
    keep their own shares of the data. What a group should have that a prompt lacks altogether is
    left to the groups that it has.

    Inferred memberships are surer than they are right, and the images between two groups are
    mostly of the common one: a power above 1 leaves them to neither.
    """
    weight = np.ones(len(member))
    q_all = memberships(member)
    for name, share in shares.items():
        rows = prompt == name
        q = q_all[rows]
        sure = q**certainty
        weight[rows] = sure @ (within(share, present(q)) / sure.mean(0).clip(LEAST_MASS**certainty))
    return weight


def mean_variance(
    risks: Float[Tensor, " group"], shares: Float[Tensor, " group"], variance_weight: float
) -> Float[Tensor, ""]:
    """sum_e u_e L_e + lambda Var_e L_e (the paper's objective; population variance).

    Training never evaluates it: it follows its gradient, by :func:`mixture_shares`.
    """
    return shares @ risks + variance_weight * (risks - risks.mean()).square().mean()


def mixture_shares(
    regrets: Float[np.ndarray, " group"],
    shares: Float[np.ndarray, " group"],
    variance_weight: float,
) -> Float[np.ndarray, " group"]:
    """The mixture of groups whose mean loss has the gradient of :func:`mean_variance`.

    d/dL_e of sum u_e L_e + lambda Var_e(L_e - L_e^0) is u_e + (2 lambda / K)(R_e - mean R). With
    running regrets R the min step is therefore ordinary training on a re-weighted mixture, which
    lets the stable target be taken over the whole mixture. Clipped to non-negative, sums to 1.
    """
    tilted = shares + 2 * variance_weight / len(regrets) * (regrets - regrets.mean())
    clipped = tilted.clip(0)
    return clipped / clipped.sum()


def stable_target(
    schedule: Schedule,
    noisy_latent: Float[Tensor, "sample ..."],
    timestep: Int[Tensor, " sample"],
    references: Float[Tensor, "reference ..."],
    log_weight: Float[Tensor, " reference"],
) -> Float[Tensor, "sample ..."]:
    """E[clean latent | noisy latent] under the weighted training latents ``references``.

    For the finite training set this is the exact conditional expectation of the usual target, so
    the expected gradient is the same and only its variance is less (Rao-Blackwell; compare Xu et
    al. 2023, "Stable Target Field"). At low noise it is the noised latent itself.
    """
    signal, sigma = (factor.flatten() for factor in schedule.factors(timestep, noisy_latent))
    flat, known = noisy_latent.flatten(1).float(), references.flatten(1).float()
    # log N(z_t; a x, s^2 I) without the term that all references share
    square = known.square().sum(1)
    precision = 1 / sigma.square().clamp_min(1e-6)
    logits = (signal * precision)[:, None] * (flat @ known.T)
    logits -= (0.5 * signal.square() * precision)[:, None] * square
    posterior = torch.softmax(logits + log_weight, dim=1)
    return (posterior @ known).view_as(noisy_latent)
