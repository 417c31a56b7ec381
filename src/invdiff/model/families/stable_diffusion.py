"""Stable Diffusion 1.x and 2.x, epsilon- and v-predicting, and models of the same classes."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from invdiff.model.condition import Condition
from invdiff.model.families.common import (
    in_network_dtype,
    quadrant_features,
    scaled_latents,
    schedule_of,
)


class StableDiffusionDenoiser:
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``StableDiffusionPipeline``."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.module: torch.nn.Module = pipeline.unet
        self.schedule = schedule_of(pipeline.scheduler)
        self.image_size: int = pipeline.unet.config.sample_size * pipeline.vae_scale_factor

    def encode_images(self, pictures: np.ndarray) -> torch.Tensor:
        """Latents of the autoencoder."""
        return scaled_latents(self.pipeline.vae, pictures)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Last hidden states of the text encoder, through the pipeline's own code."""
        hidden, _ = self.pipeline.encode_prompt(
            list(prompts),
            device=self.pipeline.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return Condition({"hidden": hidden})

    @torch.no_grad()
    def text_embedding(self, prompts: Sequence[str]) -> torch.Tensor:
        """The text encoder's state at the end of the prompt."""
        tokens = self.pipeline.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.pipeline.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        encoder = self.pipeline.text_encoder
        pooled: torch.Tensor = encoder(tokens.input_ids.to(encoder.device)).pooler_output
        return pooled.float()

    @in_network_dtype
    def predict(
        self, noisy_latent: torch.Tensor, timestep: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """One pass of the UNet."""
        return self.module(
            noisy_latent,
            timestep,
            encoder_hidden_states=condition.tensors["hidden"],
            return_dict=False,
        )[0]

    def bottleneck(self) -> AbstractContextManager[list[torch.Tensor]]:
        """Output of the UNet's middle block ("h-space")."""
        return quadrant_features(self.pipeline.unet.mid_block, lambda output: output)

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The pipeline's own size is the UNet's."""
        return {"guidance_scale": scale}

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """Hidden states instead of texts."""
        return self.guidance_kwargs(scale) | {
            "prompt_embeds": own.tensors["hidden"],
            "negative_prompt_embeds": null.tensors["hidden"],
        }

    def unpack_latents(self, drawn: torch.Tensor) -> torch.Tensor:
        """They are that already."""
        return drawn
