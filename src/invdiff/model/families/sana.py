"""Sana: a flow on strongly compressed latents, conditioned by an instructed language model."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.model.condition import Condition
from invdiff.model.families.base import TransformerDenoiser
from invdiff.model.families.common import masked_mean, noise_half


class SanaDenoiser(TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``SanaPipeline``."""

    flow_only = True

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

    def text_embedding(self, prompts: Sequence[str]) -> Tensor:
        """Mean of the hidden states over the tokens of the prompt, without an instruction."""
        return masked_mean(Condition.cat([self._encode(prompt, None) for prompt in prompts]))

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        prediction = self.module(
            latent,
            encoder_hidden_states=condition.tensors["hidden"].to(latent.dtype),
            encoder_attention_mask=condition.tensors["mask"],
            timestep=timestep * self.module.config.timestep_scale,
            return_dict=False,
        )[0]
        return noise_half(prediction, latent.shape[1])

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The transformer's own size; the pipeline's default is 1024 whatever was loaded."""
        size = {"height": self.image_size, "width": self.image_size}
        return size | {"guidance_scale": scale, "use_resolution_binning": False}
