"""Denoising losses of pictures, in v space, one number each."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from invdiff.core.diffusion.schedule import Schedule, add_noise, clean_from_prediction, loss_weight

Predict = Callable[[Tensor, Tensor, Any], Tensor]


def latent_loss(
    schedule: Schedule,
    prediction: Float[Tensor, "sample ..."],
    noisy_latent: Float[Tensor, "sample ..."],
    clean_latent: Float[Tensor, "sample ..."],
    timestep: Tensor,
) -> Float[Tensor, " sample"]:
    """Squared error in v space, averaged over the dimensions of the latent."""
    estimate = clean_from_prediction(schedule, prediction, noisy_latent, timestep)
    error = (estimate - clean_latent).float().square().flatten(1).mean(1)
    return loss_weight(schedule, timestep) * error


@torch.no_grad()
def score_batch(
    predict: Predict,
    schedule: Schedule,
    clean_latent: Float[Tensor, "sample ..."],
    conditions: Any,
    noise: Float[Tensor, "one ..."],
    level: float,
) -> tuple[Float[Tensor, " sample"], Float[Tensor, " sample"]]:
    """Losses (own prompt, null prompt) of a batch at one level, both conditions in one pass.

    ``conditions`` are what ``predict`` takes for twice the batch: each image's own prompt, then
    the null prompt for each. ``noise`` is a single draw that every image of the data shares (common
    random numbers).
    """
    count, doubled = len(clean_latent), torch.cat([clean_latent, clean_latent])
    loss = score_one(predict, schedule, doubled, conditions, noise, level)
    return loss[:count], loss[count:]


@torch.no_grad()
def score_one(
    predict: Predict,
    schedule: Schedule,
    clean_latent: Float[Tensor, "sample ..."],
    conditions: Any,
    noise: Float[Tensor, "one ..."],
    level: float,
) -> Float[Tensor, " sample"]:
    """Losses of a batch at one level under one condition each, with noise that all images share."""
    timestep = torch.full(
        (len(clean_latent),), schedule.timestep(level), device=clean_latent.device
    )
    noisy = add_noise(schedule, clean_latent, noise.expand_as(clean_latent), timestep)
    prediction = predict(noisy, timestep, conditions)
    return latent_loss(schedule, prediction, noisy, clean_latent, timestep)
