"""Stable Diffusion XL: two text encoders, a pooled embedding, the picture's size as a condition."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from invdiff.model.condition import Condition
from invdiff.model.families.common import (
    in_network_dtype,
    pooled_options,
    quadrant_features,
    scaled_latents,
    schedule_of,
)


class SDXLDenoiser:
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``StableDiffusionXLPipeline``."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.module: torch.nn.Module = pipeline.unet
        self.schedule = schedule_of(pipeline.scheduler)
        self.image_size: int = pipeline.default_sample_size * pipeline.vae_scale_factor

    def encode_images(self, pictures: np.ndarray) -> torch.Tensor:
        """Latents of the autoencoder."""
        return scaled_latents(self.pipeline.vae, pictures)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Hidden states of both encoders, and the second one's projection of the whole prompt.

        The null prompt is zeros where the pipeline's config says so, as it does for SDXL itself.
        """
        hidden, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), device=self.pipeline.device, do_classifier_free_guidance=False
        )
        if self.pipeline.config.force_zeros_for_empty_prompt:
            empty = torch.tensor([prompt == "" for prompt in prompts], device=hidden.device)
            hidden = hidden.masked_fill(empty[:, None, None], 0)
            pooled = pooled.masked_fill(empty[:, None], 0)
        return Condition({"hidden": hidden, "pooled": pooled})

    def text_embedding(self, prompts: Sequence[str]) -> torch.Tensor:
        """The second encoder's projection of the whole prompt."""
        return self.encode_prompts(prompts).tensors["pooled"].float()

    @in_network_dtype
    def predict(
        self, noisy_latent: torch.Tensor, timestep: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """One pass of the UNet, told that the picture was neither resized nor cropped."""
        hidden, pooled = condition.tensors["hidden"], condition.tensors["pooled"]
        height, width = (side * self.pipeline.vae_scale_factor for side in noisy_latent.shape[-2:])
        size = torch.tensor([[height, width, 0, 0, height, width]], dtype=hidden.dtype)
        added = {"text_embeds": pooled, "time_ids": size.to(hidden.device).expand(len(pooled), -1)}
        return self.module(
            noisy_latent,
            timestep,
            encoder_hidden_states=hidden,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]

    def bottleneck(self) -> AbstractContextManager[list[torch.Tensor]]:
        """Output of the UNet's middle block."""
        return quadrant_features(self.pipeline.unet.mid_block, lambda output: output)

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The pipeline's own size is the UNet's."""
        return {"guidance_scale": scale}

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """Hidden states and pooled embeddings instead of texts."""
        return self.guidance_kwargs(scale) | pooled_options(own, null)

    def unpack_latents(self, drawn: torch.Tensor) -> torch.Tensor:
        """They are that already."""
        return drawn
