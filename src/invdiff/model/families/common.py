"""Parts of a family: schedules, autoencoders, features of a middle block, prompts in a call."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from invdiff.core.diffusion.schedule import Prediction, Schedule, flow_schedule
from invdiff.errors import ModelError
from invdiff.model.condition import Condition

PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}


def schedule_of(scheduler: Any) -> Schedule:
    """The noise schedule that the pipeline's scheduler says its denoiser was trained on.

    Raises ModelError for a prediction that is not known.
    """
    config = scheduler.config
    kind = config.get("prediction_type", "none")
    if kind == "flow_prediction" or type(scheduler).__name__.startswith("FlowMatch"):
        return flow_schedule(config.num_train_timesteps)
    if kind not in PREDICTIONS:
        raise ModelError(
            f"the scheduler {type(scheduler).__name__} predicts {kind!r}; one of "
            f"{', '.join(PREDICTIONS)}, flow_prediction is needed"
        )
    return Schedule(scheduler.alphas_cumprod.float(), PREDICTIONS[kind])


def require_flow(pipeline: Any) -> Schedule:
    """The schedule of a family that only knows flows, or ModelError."""
    schedule = schedule_of(pipeline.scheduler)
    if schedule.prediction != "flow":
        raise ModelError(
            f"{type(pipeline).__name__} denoises a flow, its scheduler "
            f"{type(pipeline.scheduler).__name__} does not; load the model with its own scheduler"
        )
    return schedule


@torch.no_grad()
def scaled_latents(vae: Any, pictures: np.ndarray) -> Tensor:
    """Latents of uint8 pictures (n, height, width, 3), scaled as the denoiser knows them.

    Posterior means: the same picture has the same latent. An autoencoder that overflows in float16
    says so in its config and is lifted to float32, as diffusers does to decode.
    """
    dtype = vae.dtype
    lifted = dtype == torch.float16 and vae.config.get("force_upcast", False)
    if lifted:
        vae.to(torch.float32)
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(vae.device, vae.dtype)
    encoded = vae.encode(pixels / 127.5 - 1)
    if lifted:
        vae.to(dtype)
    latent = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
    mean, spread = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is not None and spread is not None:
        shape = (1, -1, 1, 1)
        latent = (latent - latent.new_tensor(mean).view(shape)) / latent.new_tensor(spread).view(
            shape
        )
    return (latent - (vae.config.get("shift_factor") or 0.0)) * vae.config.scaling_factor


@contextmanager
def quadrant_features(block: nn.Module, as_map: Callable[[Any], Tensor]) -> Iterator[list[Tensor]]:
    """What a block gives, averaged within quarters of the picture, for each pass: (n, 4 width).

    ``as_map`` turns the block's output into a map (n, width, rows, columns). Quarters, because
    where something is (hair beside a face or below it) tells attributes apart that a mean over all
    positions confuses.
    """
    seen: list[Tensor] = []
    handle = block.register_forward_hook(
        lambda _module, _inputs, output: seen.append(
            adaptive_avg_pool2d(as_map(output).detach().float(), 2).flatten(1)
        )
    )
    try:
        yield seen
    finally:
        handle.remove()


def token_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (n, rows * columns, width) as a map (n, width, rows, columns)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def noise_half(prediction: Tensor, channels: int) -> Tensor:
    """The prediction without the variances that some denoisers append along the channels."""
    return prediction[:, :channels]


def masked_mean(condition: Condition) -> Tensor:
    """Mean (n, width) of the hidden states over the tokens that the mask keeps, float32."""
    hidden, mask = condition.tensors["hidden"], condition.tensors["mask"]
    weight = mask.to(hidden.device, torch.float32)[..., None]
    return (hidden.float() * weight).sum(1) / weight.sum(1).clamp_min(1)


def prompt_options(own: Condition, null: Condition) -> dict[str, Any]:
    """Arguments of a pipeline's call for prompts that are conditions, of whichever kind."""
    options: dict[str, Any] = {
        "prompt_embeds": own.tensors["hidden"],
        "negative_prompt_embeds": null.tensors["hidden"],
    }
    if "pooled" in own.tensors:
        options["pooled_prompt_embeds"] = own.tensors["pooled"]
        options["negative_pooled_prompt_embeds"] = null.tensors["pooled"]
    if "mask" in own.tensors:
        options["prompt_attention_mask"] = own.tensors["mask"]
        options["negative_prompt_attention_mask"] = null.tensors["mask"]
        options["negative_prompt"] = None  # "" is their default, and they take one of both
    return options
