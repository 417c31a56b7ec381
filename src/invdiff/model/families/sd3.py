"""Stable Diffusion 3 and 3.5: a flow, a transformer, up to three text encoders."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from invdiff.model.condition import Condition
from invdiff.model.families.common import (
    in_network_dtype,
    middle_of,
    pooled_options,
    quadrant_features,
    require_flow,
    scaled_latents,
    token_map,
)


class SD3Denoiser:
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``StableDiffusion3Pipeline``."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.module: torch.nn.Module = pipeline.transformer
        self.schedule = require_flow(pipeline)
        self.image_size: int = pipeline.default_sample_size * pipeline.vae_scale_factor
        self.grid = (0, 0)  # rows and columns of tokens in the latest pass

    def encode_images(self, pictures: np.ndarray) -> torch.Tensor:
        """Latents of the autoencoder."""
        return scaled_latents(self.pipeline.vae, pictures)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Hidden states of all encoders, and what the two CLIPs say of the whole prompt."""
        texts = list(prompts)
        hidden, _, pooled, _ = self.pipeline.encode_prompt(
            texts, texts, texts, device=self.pipeline.device, do_classifier_free_guidance=False
        )
        return Condition({"hidden": hidden, "pooled": pooled})

    def text_embedding(self, prompts: Sequence[str]) -> torch.Tensor:
        """What the two CLIPs say of the whole prompt."""
        return self.encode_prompts(prompts).tensors["pooled"].float()

    @in_network_dtype
    def predict(
        self, noisy_latent: torch.Tensor, timestep: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """One pass of the transformer: the velocity."""
        rows, columns = noisy_latent.shape[-2:]
        patch = self.pipeline.transformer.config.patch_size
        self.grid = (rows // patch, columns // patch)
        return self.module(
            hidden_states=noisy_latent,
            timestep=timestep,
            encoder_hidden_states=condition.tensors["hidden"],
            pooled_projections=condition.tensors["pooled"],
            return_dict=False,
        )[0]

    def bottleneck(self) -> AbstractContextManager[list[torch.Tensor]]:
        """The picture's tokens after the middle block, which gives (text, picture)."""
        middle = middle_of(self.pipeline.transformer.transformer_blocks)
        return quadrant_features(middle, lambda output: token_map(output[1], self.grid))

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The pipeline's own size is the transformer's."""
        return {"guidance_scale": scale}

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """Hidden states and pooled embeddings instead of texts."""
        return self.guidance_kwargs(scale) | pooled_options(own, null)

    def unpack_latents(self, drawn: torch.Tensor) -> torch.Tensor:
        """They are that already."""
        return drawn
