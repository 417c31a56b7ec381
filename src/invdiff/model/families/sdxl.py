"""Stable Diffusion XL: two text encoders, a pooled embedding, the picture's size as a condition."""

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.model.condition import Condition
from invdiff.model.families.base import UNetDenoiser


class SDXLDenoiser(UNetDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``StableDiffusionXLPipeline``."""

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

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """The UNet is told that the picture was neither resized nor cropped."""
        hidden, pooled = condition.tensors["hidden"], condition.tensors["pooled"]
        height, width = (side * self.pipeline.vae_scale_factor for side in latent.shape[-2:])
        size = torch.tensor([[height, width, 0, 0, height, width]], dtype=hidden.dtype)
        added = {"text_embeds": pooled, "time_ids": size.to(hidden.device).expand(len(pooled), -1)}
        return self.module(
            latent,
            timestep,
            encoder_hidden_states=hidden,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
