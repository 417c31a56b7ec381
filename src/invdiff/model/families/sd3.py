"""Stable Diffusion 3 and 3.5: a flow, a transformer, up to three text encoders."""

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.model.condition import Condition
from invdiff.model.families.base import TransformerDenoiser


class SD3Denoiser(TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``StableDiffusion3Pipeline``."""

    flow_only = True

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Hidden states of all encoders, and what the two CLIPs say of the whole prompt."""
        texts = list(prompts)
        hidden, _, pooled, _ = self.pipeline.encode_prompt(
            texts, texts, texts, device=self.pipeline.device, do_classifier_free_guidance=False
        )
        return Condition({"hidden": hidden, "pooled": pooled})

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        return self.module(
            hidden_states=latent,
            timestep=timestep,
            encoder_hidden_states=condition.tensors["hidden"],
            pooled_projections=condition.tensors["pooled"],
            return_dict=False,
        )[0]
