"""Stable Diffusion 1.x and 2.x, epsilon- and v-predicting, and models of the same classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.model.condition import Condition
from invdiff.model.families.base import UNetDenoiser


class StableDiffusionDenoiser(UNetDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``StableDiffusionPipeline``."""

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
    def text_embedding(self, prompts: Sequence[str]) -> Tensor:
        """The text encoder's state at the end of the prompt."""
        tokens = self.pipeline.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.pipeline.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        encoder = self.pipeline.text_encoder
        pooled: Tensor = encoder(tokens.input_ids.to(encoder.device)).pooler_output
        return pooled.float()

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        hidden = condition.tensors["hidden"]
        return self.module(latent, timestep, encoder_hidden_states=hidden, return_dict=False)[0]
