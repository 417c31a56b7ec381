"""Stable Diffusion 1.x and 2.x (epsilon and v), XL, 3.x, and models of the same classes."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from invdiff.errors import refused
from invdiff.model.denoiser import Condition
from invdiff.model.families.base import WHOLE, PipelineDenoiser
from invdiff.model.families.transformers import TransformerDenoiser


class StableDiffusionDenoiser(PipelineDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``StableDiffusionPipeline``.

    Conditions are the last hidden states of the text encoder.
    """

    component = "unet"
    encoded: ClassVar[tuple[str, ...]] = ("hidden", "")
    encoding: ClassVar[Mapping[str, Any]] = {
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": False,
    }

    @torch.no_grad()
    @refused("the text encoder of the model cannot read prompts", WHOLE)
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
        return self.module(
            latent,
            timestep,
            encoder_hidden_states=hidden,
            timestep_cond=self._unguided(latent),
            return_dict=False,
        )[0]

    def _unguided(self, latent: Tensor) -> Tensor | None:
        """What a network that is told the guidance scale (LCM) is told at scale 1."""
        size = self.module.config.time_cond_proj_dim
        if size is None:
            return None
        told = self.pipeline.get_guidance_scale_embedding(torch.zeros(len(latent)), size)
        found: Tensor = told.to(latent.device, latent.dtype)
        return found

    def middle(self) -> nn.Module:
        """The UNet's middle block ("h-space")."""
        block: nn.Module = self.module.mid_block
        return block


class SDXLDenoiser(StableDiffusionDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``StableDiffusionXLPipeline``.

    Conditions are the hidden states of both encoders, and the second one's projection of the whole
    prompt.
    """

    encoded = ("hidden", "", "pooled", "")
    text_embedding = PipelineDenoiser.text_embedding

    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """The null prompt is zeros where the pipeline's config says so, as SDXL's does."""
        found = super().encode_prompts(prompts)
        if not self.pipeline.config.force_zeros_for_empty_prompt:
            return found
        hidden, pooled = found.tensors["hidden"], found.tensors["pooled"]
        empty = torch.tensor([prompt == "" for prompt in prompts], device=hidden.device)[:, None]
        pooled = pooled.masked_fill(empty, 0)
        return Condition({"hidden": hidden.masked_fill(empty[..., None], 0), "pooled": pooled})

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
            timestep_cond=self._unguided(latent),
            return_dict=False,
        )[0]


class SD3Denoiser(TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``StableDiffusion3Pipeline``, 3 and 3.5.

    Conditions are the hidden states of up to three encoders, and what the two CLIPs say of the
    whole prompt.
    """

    flow_only = True
    encoded = ("hidden", "", "pooled", "")
    encoding: ClassVar[Mapping[str, Any]] = {
        "prompt_2": None,
        "prompt_3": None,
        "do_classifier_free_guidance": False,
    }

    def inputs(self, condition: Condition) -> dict[str, Any]:
        """What the two CLIPs say."""
        return {"pooled_projections": condition.tensors["pooled"]}
