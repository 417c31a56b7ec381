"""Flux.1: a flow on latents that are packed two by two, with the guidance scale as an input."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import nn

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

# Guidance that a distilled model is told while the method asks it. At 1 its prediction is that of
# the data, which is what scores and training compare it with.
UNGUIDED = 1.0


class FluxDenoiser:
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``FluxPipeline``."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.module: torch.nn.Module = pipeline.transformer
        self.schedule = require_flow(pipeline)
        self.image_size: int = pipeline.default_sample_size * pipeline.vae_scale_factor
        self._distilled: bool = pipeline.transformer.config.guidance_embeds
        self.grid = (0, 0)  # rows and columns of tokens in the latest pass

    def encode_images(self, pictures: np.ndarray) -> torch.Tensor:
        """Latents of the autoencoder, not packed."""
        return scaled_latents(self.pipeline.vae, pictures)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Hidden states of the T5, and what the CLIP says of the whole prompt."""
        hidden, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), prompt_2=None, device=self.pipeline.device
        )
        return Condition({"hidden": hidden, "pooled": pooled})

    def text_embedding(self, prompts: Sequence[str]) -> torch.Tensor:
        """What the CLIP says of the whole prompt."""
        return self.encode_prompts(prompts).tensors["pooled"].float()

    @in_network_dtype
    def predict(
        self, noisy_latent: torch.Tensor, timestep: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """One pass of the transformer, which is told sigma instead of a timestep: the velocity."""
        count, channels, rows, columns = noisy_latent.shape
        self.grid = (rows // 2, columns // 2)
        hidden = condition.tensors["hidden"]
        device, dtype = noisy_latent.device, noisy_latent.dtype
        guided = self._distilled
        packed = self.module(
            hidden_states=self.pipeline._pack_latents(noisy_latent, count, channels, rows, columns),
            timestep=timestep.to(dtype) / (self.schedule.timesteps - 1),
            guidance=torch.full((count,), UNGUIDED, device=device) if guided else None,
            pooled_projections=condition.tensors["pooled"],
            encoder_hidden_states=hidden,
            txt_ids=torch.zeros(hidden.shape[1], 3, device=device, dtype=dtype),
            img_ids=self.pipeline._prepare_latent_image_ids(count, *self.grid, device, dtype),
            return_dict=False,
        )[0]
        return unpacked(packed, self.grid)

    def bottleneck(self) -> AbstractContextManager[list[torch.Tensor]]:
        """The picture's tokens after the middle one of all blocks, which give (text, picture)."""
        network = self.pipeline.transformer
        blocks = nn.ModuleList([*network.transformer_blocks, *network.single_transformer_blocks])
        return quadrant_features(middle_of(blocks), lambda output: token_map(output[1], self.grid))

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """A distilled model is told the scale; any other is compared with the null prompt."""
        size = {"height": self.image_size, "width": self.image_size}
        if self._distilled:
            return size | {"guidance_scale": scale}
        return size | {"true_cfg_scale": scale, "negative_prompt": ""}

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """Hidden states and pooled embeddings instead of texts."""
        options = self.guidance_kwargs(scale) | pooled_options(own, null)
        if self._distilled:  # it compares with no other prompt
            return {name: options[name] for name in options if not name.startswith("negative")}
        return {name: options[name] for name in options if name != "negative_prompt"}

    def unpack_latents(self, drawn: torch.Tensor) -> torch.Tensor:
        """Unpacked; pictures are square."""
        rows = self.image_size // self.pipeline.vae_scale_factor // 2
        return unpacked(drawn, (rows, rows))


def unpacked(packed: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Latents (n, c, 2 rows, 2 columns) of tokens (n, rows * columns, 4 c)."""
    blocks = packed.unflatten(1, grid).unflatten(3, (-1, 2, 2))
    latents: torch.Tensor = blocks.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return latents
