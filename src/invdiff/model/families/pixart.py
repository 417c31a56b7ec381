"""PixArt-Sigma: a transformer that predicts epsilon and its variance, conditioned by a T5."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from invdiff.model.condition import Condition
from invdiff.model.families.common import (
    in_network_dtype,
    masked_mean,
    masked_options,
    middle_of,
    noise_half,
    quadrant_features,
    scaled_latents,
    schedule_of,
    token_map,
)

# Prompts as they are: the pipeline's own cleaning depends on packages that may not be installed.
AS_IS = {"clean_caption": False}


class PixArtDenoiser:
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``PixArtSigmaPipeline``."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.module: torch.nn.Module = pipeline.transformer
        self.schedule = schedule_of(pipeline.scheduler)
        self.image_size: int = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
        self.grid = (0, 0)  # rows and columns of tokens in the latest pass

    def encode_images(self, pictures: np.ndarray) -> torch.Tensor:
        """Latents of the autoencoder."""
        return scaled_latents(self.pipeline.vae, pictures)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Hidden states of the T5 and the mask of the prompt's own tokens."""
        hidden, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, device=self.pipeline.device, **AS_IS
        )
        return Condition({"hidden": hidden, "mask": mask})

    def text_embedding(self, prompts: Sequence[str]) -> torch.Tensor:
        """Mean of the hidden states over the prompt's own tokens."""
        condition = self.encode_prompts(prompts).tensors
        return masked_mean(condition["hidden"], condition["mask"])

    @in_network_dtype
    def predict(
        self, noisy_latent: torch.Tensor, timestep: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """One pass of the transformer, its learned variance left out."""
        rows, columns = noisy_latent.shape[-2:]
        patch = self.pipeline.transformer.config.patch_size
        self.grid = (rows // patch, columns // patch)
        prediction = self.module(
            noisy_latent,
            encoder_hidden_states=condition.tensors["hidden"],
            encoder_attention_mask=condition.tensors["mask"],
            timestep=timestep,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return noise_half(prediction, noisy_latent.shape[1])

    def bottleneck(self) -> AbstractContextManager[list[torch.Tensor]]:
        """The tokens after the middle block."""
        middle = middle_of(self.pipeline.transformer.transformer_blocks)
        return quadrant_features(middle, lambda output: token_map(output, self.grid))

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The transformer's own size, not a neighbour of it from the pipeline's list."""
        return {"guidance_scale": scale, "use_resolution_binning": False, **AS_IS}

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """Hidden states and masks instead of texts."""
        return self.guidance_kwargs(scale) | masked_options(own, null)

    def unpack_latents(self, drawn: torch.Tensor) -> torch.Tensor:
        """They are that already."""
        return drawn
