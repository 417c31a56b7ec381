"""PixArt-Sigma: a transformer that predicts epsilon and its variance, conditioned by a T5."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.model.condition import Condition
from invdiff.model.families.base import TransformerDenoiser
from invdiff.model.families.common import masked_mean, noise_half

# Prompts as they are: the pipeline's own cleaning depends on packages that may not be installed.
AS_IS = {"clean_caption": False}


class PixArtDenoiser(TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``PixArtSigmaPipeline``."""

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Hidden states of the T5 and the mask of the prompt's own tokens."""
        hidden, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, device=self.pipeline.device, **AS_IS
        )
        return Condition({"hidden": hidden, "mask": mask})

    def text_embedding(self, prompts: Sequence[str]) -> Tensor:
        """Mean of the hidden states over the prompt's own tokens."""
        return masked_mean(self.encode_prompts(prompts))

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """The learned variance is left out."""
        prediction = self.module(
            latent,
            encoder_hidden_states=condition.tensors["hidden"],
            encoder_attention_mask=condition.tensors["mask"],
            timestep=timestep,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return noise_half(prediction, latent.shape[1])

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The transformer's own size, not a neighbour of it from the pipeline's list."""
        return {"guidance_scale": scale, "use_resolution_binning": False, **AS_IS}
