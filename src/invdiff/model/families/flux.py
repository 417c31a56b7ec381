"""Flux.1: a flow on latents that are packed two by two, with the guidance scale as an input."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.model.condition import Condition
from invdiff.model.families.base import TransformerDenoiser

# Guidance that a distilled model is told while the method asks it. At 1 its prediction is that of
# the data, which is what scores and training compare it with.
UNGUIDED = 1.0


class FluxDenoiser(TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``FluxPipeline``.

    Latents are those of the autoencoder, not packed.
    """

    flow_only = True
    patch = 2  # the pipeline packs two by two cells; the transformer's own patch is 1

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        self._distilled: bool = self.module.config.guidance_embeds

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Hidden states of the T5, and what the CLIP says of the whole prompt."""
        hidden, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), prompt_2=None, device=self.pipeline.device
        )
        return Condition({"hidden": hidden, "pooled": pooled})

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """The transformer is told sigma instead of a timestep."""
        count, channels, rows, columns = latent.shape
        hidden = condition.tensors["hidden"]
        device, dtype = latent.device, latent.dtype
        packed = self.module(
            hidden_states=self.pipeline._pack_latents(latent, count, channels, rows, columns),
            timestep=timestep.to(dtype) / (self.schedule.timesteps - 1),
            guidance=torch.full((count,), UNGUIDED, device=device) if self._distilled else None,
            pooled_projections=condition.tensors["pooled"],
            encoder_hidden_states=hidden,
            txt_ids=torch.zeros(hidden.shape[1], 3, device=device, dtype=dtype),
            img_ids=self.pipeline._prepare_latent_image_ids(count, *self.grid, device, dtype),
            return_dict=False,
        )[0]
        return unpacked(packed, self.grid)

    def blocks(self) -> nn.ModuleList:
        """The blocks with two streams, then those with one."""
        network = self.module
        return nn.ModuleList([*network.transformer_blocks, *network.single_transformer_blocks])

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """A distilled model is told the scale; any other is compared with the null prompt."""
        size = {"height": self.image_size, "width": self.image_size}
        if self._distilled:
            return size | {"guidance_scale": scale}
        return size | {"true_cfg_scale": scale, "negative_prompt": ""}

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """Hidden states and pooled embeddings instead of texts."""
        options = super().conditioned_kwargs(own, null, scale)
        if self._distilled:  # it compares with no other prompt
            return {name: options[name] for name in options if not name.startswith("negative")}
        return {name: options[name] for name in options if name != "negative_prompt"}

    def unpack_latents(self, drawn: Tensor) -> Tensor:
        """Unpacked; pictures are square."""
        rows = self.image_size // self.pipeline.vae_scale_factor // 2
        return unpacked(drawn, (rows, rows))


def unpacked(packed: Tensor, grid: tuple[int, int]) -> Tensor:
    """Latents (n, c, 2 rows, 2 columns) of tokens (n, rows * columns, 4 c)."""
    blocks = packed.unflatten(1, grid).unflatten(3, (-1, 2, 2))
    latents: Tensor = blocks.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return latents
