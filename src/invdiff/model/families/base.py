"""What the families do alike: the denoiser of a pipeline with a UNet, or with a transformer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from invdiff.model.condition import Condition
from invdiff.model.families.common import (
    prompt_options,
    quadrant_features,
    require_flow,
    scaled_latents,
    schedule_of,
    token_map,
)


class PipelineDenoiser(ABC):
    """A :class:`~invdiff.model.denoiser.Denoiser` but for what each family has of its own.

    A family adds how it encodes prompts, calls its network and pools a bottleneck; it says in
    ``flow_only`` whether it knows nothing but flows.
    """

    component: ClassVar[str]
    flow_only: ClassVar[bool] = False

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.module: Any = getattr(pipeline, self.component)
        self.schedule = (
            require_flow(pipeline) if self.flow_only else schedule_of(pipeline.scheduler)
        )
        cells = getattr(pipeline, "default_sample_size", None) or self.module.config.sample_size
        self.image_size: int = cells * pipeline.vae_scale_factor

    def encode_images(self, pictures: np.ndarray) -> Tensor:
        """Latents of the autoencoder."""
        return scaled_latents(self.pipeline.vae, pictures)

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Conditions through the pipeline's own code."""

    def text_embedding(self, prompts: Sequence[str]) -> Tensor:
        """The pooled embedding: what the encoders say of the whole prompt."""
        return self.encode_prompts(prompts).tensors["pooled"].float()

    def predict(self, noisy_latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """One pass of the network, given the latent in its own precision; float32 comes back.

        Everything around the network counts in float32: differences between losses are far below
        the rounding of half precision.
        """
        return self._pass(noisy_latent.to(self.module.dtype), timestep, condition).float()

    @abstractmethod
    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor: ...

    @abstractmethod
    def bottleneck(self) -> AbstractContextManager[list[Tensor]]:
        """Pooled output of a block in the middle of the network."""

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The pipeline's own size is the network's."""
        return {"guidance_scale": scale}

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """Embeddings instead of texts."""
        return self.guidance_kwargs(scale) | prompt_options(own, null)

    def unpack_latents(self, drawn: Tensor) -> Tensor:
        """They are that already."""
        return drawn


class UNetDenoiser(PipelineDenoiser):
    """A family with a UNet."""

    component = "unet"

    def bottleneck(self) -> AbstractContextManager[list[Tensor]]:
        """Output of the UNet's middle block ("h-space")."""
        return quadrant_features(self.module.mid_block, lambda output: output)


class TransformerDenoiser(PipelineDenoiser):
    """A family with a transformer, to which ``patch`` x ``patch`` latent cells are a token."""

    component = "transformer"

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        self.grid = (0, 0)  # rows and columns of tokens in the latest pass

    @property
    def patch(self) -> int:
        """Latent cells on the side of a token."""
        size: int = self.module.config.patch_size
        return size

    def predict(self, noisy_latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """As every family's, and the grid of tokens is remembered for the bottleneck."""
        rows, columns = noisy_latent.shape[-2:]
        self.grid = (rows // self.patch, columns // self.patch)
        return super().predict(noisy_latent, timestep, condition)

    def blocks(self) -> nn.ModuleList:
        """All blocks in their order."""
        found: nn.ModuleList = self.module.transformer_blocks
        return found

    def picture_tokens(self, output: Any) -> Tensor:
        """The picture's tokens (n, token, width) in what a block gives."""
        tokens: Tensor = output[1] if isinstance(output, tuple) else output  # (text, picture)
        return tokens

    def bottleneck(self) -> AbstractContextManager[list[Tensor]]:
        """The picture's tokens after the block in the middle, the later one of two."""
        blocks = self.blocks()
        return quadrant_features(
            blocks[len(blocks) // 2],
            lambda output: token_map(self.picture_tokens(output), self.grid),
        )
