"""The regression target of the min step: the posterior mean over the training latents."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from invdiff.core.diffusion.schedule import Schedule


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
