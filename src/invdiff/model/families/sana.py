"""Sana: a flow on strongly compressed latents, conditioned by an instructed language model."""

import inspect
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
    require_flow,
    scaled_latents,
    token_map,
)


class SanaDenoiser:
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``SanaPipeline``."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.module: torch.nn.Module = pipeline.transformer
        self.schedule = require_flow(pipeline)
        self.image_size: int = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
        self.grid = (0, 0)  # rows and columns of tokens in the latest pass

    def encode_images(self, pictures: np.ndarray) -> torch.Tensor:
        """Latents of the autoencoder."""
        return scaled_latents(self.pipeline.vae, pictures)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Hidden states of the language model and the mask of what it read.

        As in the pipeline's own call a prompt comes after an instruction, the null prompt does not.
        """
        instruction = inspect.signature(self.pipeline.__call__).parameters[
            "complex_human_instruction"
        ]
        parts = [self._encode(p, instruction.default if p else None) for p in prompts]
        return Condition.cat(parts)

    def _encode(self, prompt: str, instruction: list[str] | None) -> Condition:
        hidden, mask, _, _ = self.pipeline.encode_prompt(
            [prompt],
            do_classifier_free_guidance=False,
            device=self.pipeline.device,
            complex_human_instruction=instruction,
        )
        return Condition({"hidden": hidden, "mask": mask})

    def text_embedding(self, prompts: Sequence[str]) -> torch.Tensor:
        """Mean of the hidden states over the tokens of the prompt, without an instruction."""
        parts = Condition.cat([self._encode(prompt, None) for prompt in prompts]).tensors
        return masked_mean(parts["hidden"], parts["mask"])

    @in_network_dtype
    def predict(
        self, noisy_latent: torch.Tensor, timestep: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """One pass of the transformer: the velocity."""
        rows, columns = noisy_latent.shape[-2:]
        config = self.pipeline.transformer.config
        self.grid = (rows // config.patch_size, columns // config.patch_size)
        prediction = self.module(
            noisy_latent,
            encoder_hidden_states=condition.tensors["hidden"].to(noisy_latent.dtype),
            encoder_attention_mask=condition.tensors["mask"],
            timestep=timestep * config.timestep_scale,
            return_dict=False,
        )[0]
        return noise_half(prediction, noisy_latent.shape[1])

    def bottleneck(self) -> AbstractContextManager[list[torch.Tensor]]:
        """The tokens after the middle block."""
        middle = middle_of(self.pipeline.transformer.transformer_blocks)
        return quadrant_features(middle, lambda output: token_map(output, self.grid))

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The transformer's own size; the pipeline's default is 1024 whatever was loaded."""
        size = {"height": self.image_size, "width": self.image_size}
        return size | {"guidance_scale": scale, "use_resolution_binning": False}

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """Hidden states and masks instead of texts."""
        return self.guidance_kwargs(scale) | masked_options(own, null)

    def unpack_latents(self, drawn: torch.Tensor) -> torch.Tensor:
        """They are that already."""
        return drawn
