"""The min step: which mixture of the groups the guidance is trained on, and towards which target.

InvDiff (arXiv 2412.08480) minimises mean + lambda * variance of the group risks. Three things
differ from the paper's plain form, each because of what was measured (docs/method.md): groups are
balanced *within* a prompt, the variance is taken over regrets, and the regression target is the
posterior mean over the training latents instead of the one latent that was noised.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import expit, logit, softmax
from torch import Tensor

from invdiff.core.membership import (
    LEAST_MASS,
    Membership,
    Mix,
    as_mix,
    memberships,
    present,
    shares_of,
    within,
)
from invdiff.core.schedule import Schedule


def balanced_weights(
    member: Membership,
    prompt: np.ndarray,
    shares: dict[str, Float[np.ndarray, " group"]],
    certainty: float = 1.0,
) -> Float[np.ndarray, " sample"]:
    """Weights that give the groups of each prompt the masses ``shares[prompt]``.

    w_i = sum_e u_e r_i(e) / mean r(e), r = q_i(e) to the power ``certainty`` (design 1.4, where it
    is 1). Prompts without an entry keep weight 1. The weights of a prompt average 1, so prompts
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


def first_aim(wanted: Mix, scales: Sequence[float]) -> Mix:
    """The mix to train towards at first, so that pictures at guidance ``scales`` show ``wanted``.

    Guidance at scale w raises the ratios of two groups' shares to the power w, as far as the null
    prompt has none to set against them. So what is trained is the mix whose ratios to the power of
    the mean scale are those wanted: an even mix stays even, and 70 : 30 at scale 2.5 asks for
    58 : 42. A group that is not wanted gets nothing.
    """
    target = shares_of(wanted)
    aim = np.zeros(len(target))
    own = target > 0
    aim[own] = softmax(np.log(target[own]) / np.mean(scales))
    return as_mix(aim)


def corrected_aim(
    aim: float,
    seen: Sequence[float],
    scales: Sequence[float],
    most: float = 0.85,
    wanted: float = 0.5,
) -> float:
    """The share to train towards, after the shares ``seen`` were sampled at guidance ``scales``.

    Guidance at scale w raises the odds of what is left to the power w, so an imbalance of log-odds
    d in the pictures is one of d / w in the model. Several scales are averaged with weights w: the
    larger the scale, the better its pictures tell a small imbalance. The aim moves against three
    quarters of it, because the pictures are few. It stays within [1 - most, most]. ``wanted`` is
    the share that the pictures are to show, at whichever scale.
    """
    left = logit(np.clip(seen, 0.02, 0.98)) - logit(wanted)
    step = 0.75 * left.sum() / sum(scales)
    return float(np.clip(expit(logit(aim) - step), 1 - most, most))


def corrected_mix(
    aim: Mix,
    seen: Sequence[Float[np.ndarray, " group"]],
    scales: Sequence[float],
    wanted: Mix,
    most: float = 0.85,
) -> Mix:
    """:func:`corrected_aim` for any number of groups.

    Guidance at scale w raises the *ratios* of what is left to the power w, so what is corrected are
    the logarithms of shares, which are then made to add up to 1. No group falls below
    2 (1 - most) of its wanted share: for two even groups that is [1 - most, most] again. A group
    that is not wanted, because the prompt has none of it, is left alone.
    """
    if isinstance(wanted, int | float):
        assert isinstance(aim, int | float), "aim and wanted mix have the same groups"
        return corrected_aim(aim, [float(one[1]) for one in seen], scales, most, wanted)
    target = shares_of(wanted)
    own = target > 0
    left = [np.log(one[own].clip(0.02)) - np.log(target[own]) for one in seen]
    step = 0.75 * np.sum(left, 0) / sum(scales)
    moved = np.zeros(len(target))
    moved[own] = softmax(np.log(shares_of(aim)[own]) - step)
    return at_least(moved, 2 * (1 - most) * target).tolist()


def at_least(
    shares: Float[np.ndarray, " group"], floor: Float[np.ndarray, " group"]
) -> Float[np.ndarray, " group"]:
    """Shares lifted to ``floor`` (sum below 1), at the cost of the others in proportion."""
    low = np.zeros(len(shares), bool)
    for _ in shares:
        rest = (1 - floor[low].sum()) / max(shares[~low].sum(), 1e-12)
        lifted = np.where(low, floor, shares * rest)
        if (lifted >= floor).all():
            break
        low |= lifted < floor
    return lifted


def mean_variance(
    risks: Float[Tensor, " group"], shares: Float[Tensor, " group"], variance_weight: float
) -> Float[Tensor, ""]:
    """sum_e u_e L_e + lambda Var_e L_e (the paper's objective; population variance)."""
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


def worst_case_shares(
    total: Float[np.ndarray, " group"], shares: Float[np.ndarray, " group"], step: float
) -> Float[np.ndarray, " group"]:
    """The mixture of GroupDRO (Sagawa et al. 2020): u_e exp(step * sum of the risks seen so far).

    Exponentiated gradient ascent on max_q sum q_e L_e. It weighs plain risks: where a group is
    harder to denoise whatever is learnt, it ends with that group alone, as the plain form does.
    """
    grown = shares * np.exp(step * (total - total.max()))
    return grown / grown.sum()


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
