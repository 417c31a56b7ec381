"""Families with a transformer; Flux.1, Chroma, PixArt-Sigma and Sana.

They differ in what the network is handed besides the latent, and in how pipelines name that. The
newer ones, which read prompts with a whole language model, are in :mod:`.language_models`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from invdiff.model.denoiser import Condition
from invdiff.model.families.base import PipelineDenoiser, whole_prompts
from invdiff.model.texts import call_default

# Guidance that a distilled model is told while the method asks it. At 1 its prediction is that of
# the data, which is what scores and training compare it with.
UNGUIDED = 1.0


class TransformerDenoiser(PipelineDenoiser):
    """A family with a transformer, to which ``patch`` x ``patch`` latent cells are a token."""

    component = "transformer"
    options: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of the pipeline's own call."""

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

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        return self.module(
            latent,
            encoder_hidden_states=condition.tensors["hidden"].to(latent.dtype),
            timestep=timestep * getattr(self.module.config, "timestep_scale", 1),
            return_dict=False,
            **self.inputs(condition),
        )[0]

    def inputs(self, condition: Condition) -> dict[str, Any]:
        """What the network takes besides, by the names of its arguments: the mask of a prompt."""
        return {"encoder_attention_mask": condition.tensors["mask"]}

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The transformer's own size, whatever the pipeline's default is."""
        return {**super().guidance_kwargs(scale), **self.options}

    def blocks(self) -> list[nn.Module]:
        """All blocks in their order; where some have two streams, those with one come after."""
        return [
            *self.module.transformer_blocks,
            *getattr(self.module, "single_transformer_blocks", ()),
        ]

    def middle(self) -> nn.Module:
        """The later one of two."""
        blocks = self.blocks()
        return blocks[len(blocks) // 2]

    def as_map(self, output: Any) -> Tensor:
        """The picture's tokens, which follow those of the text; or a block gives the two apart."""
        tokens = output[1] if isinstance(output, tuple) else output
        return token_map(tokens[:, -self.grid[0] * self.grid[1] :], self.grid)


def token_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (n, rows * columns, width) as a map (n, width, rows, columns)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


class PackedDenoiser(TransformerDenoiser):
    """A flow on tokens of two by two latent cells, which the pipeline packs itself.

    The network is told the noise level instead of a timestep, and if it is distilled, the guidance.
    Latents are those of the autoencoder, not packed.
    """

    flow_only = True
    patch = 2  # whatever the transformer says of its own input, which is packed

    @property
    def distilled(self) -> bool:
        """Whether guidance is an input of the network."""
        return bool(self.module.config.get("guidance_embeds"))

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        told = torch.full((len(latent),), UNGUIDED, device=latent.device)
        tokens = self.module(
            hidden_states=packed(latent),
            timestep=timestep.to(latent.dtype) / (self.schedule.timesteps - 1),
            **({"guidance": told} if self.distilled else {}),
            encoder_hidden_states=condition.tensors["hidden"].to(latent.dtype),
            return_dict=False,
            **self.places(latent, condition),
        )[0]
        return unpacked(tokens, self.grid)

    def places(self, latent: Tensor, condition: Condition) -> dict[str, Any]:
        """Where the tokens of text and picture are, as the network takes it; masks."""
        raise NotImplementedError

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """A distilled model is told the scale; any other is compared with the null prompt."""
        options = super().guidance_kwargs(scale)
        if not self.distilled:
            options |= {"true_cfg_scale": options.pop("guidance_scale"), "negative_prompt": ""}
        return options

    def compares(self, scale: float) -> bool:
        """A distilled model does not."""
        return not self.distilled

    def unpack_latents(self, drawn: Tensor) -> Tensor:
        """Unpacked; pictures are square."""
        rows = self.image_size // self.pipeline.vae_scale_factor // 2
        return unpacked(drawn, (rows, rows))


def packed(latent: Tensor) -> Tensor:
    """Tokens (n, rows * columns, 4 c) of latents (n, c, 2 rows, 2 columns)."""
    blocks = latent.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return blocks.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Latents (n, c, 2 rows, 2 columns) of tokens (n, rows * columns, 4 c)."""
    blocks = tokens.unflatten(1, grid).unflatten(3, (-1, 2, 2))
    latents: Tensor = blocks.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return latents


class FluxDenoiser(PackedDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``FluxPipeline``.

    Conditions are the hidden states of the T5, and what the CLIP says of the whole prompt.
    """

    encoded: ClassVar[tuple[str, ...]] = ("hidden", "pooled", "")
    encoding: ClassVar[Mapping[str, Any]] = {"prompt_2": None}

    def places(self, latent: Tensor, condition: Condition) -> dict[str, Any]:
        """The places of tokens, and what the CLIP says."""
        pooled = {"pooled_projections": condition.tensors["pooled"]}
        return self.ids(latent, condition) | pooled

    def ids(self, latent: Tensor, condition: Condition) -> dict[str, Tensor]:
        """Three numbers for each token; those of the text are zeros."""
        kind: dict[str, Any] = {"device": latent.device, "dtype": latent.dtype}
        places = self.pipeline._prepare_latent_image_ids(len(latent), *self.grid, **kind)
        count = condition.tensors["hidden"].shape[1]
        return {"txt_ids": torch.zeros(count, 3, **kind), "img_ids": places}


class ChromaDenoiser(FluxDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``ChromaPipeline``.

    Conditions are the hidden states of the T5, and the mask of the prompt and the first token that
    fills it up; the network reads all of the picture.
    """

    encoded = ("hidden", "", "mask", "", "", "")
    encoding: ClassVar[Mapping[str, Any]] = {"do_classifier_free_guidance": False}

    def places(self, latent: Tensor, condition: Condition) -> dict[str, Any]:
        """The places of tokens, and the mask of both."""
        found = self.ids(latent, condition)
        mask = condition.tensors["mask"]
        picture = mask.new_ones(len(mask), found["img_ids"].shape[0])
        return found | {"attention_mask": torch.cat([mask, picture], dim=1)}

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """Here ``guidance_scale`` is that of the comparison."""
        return TransformerDenoiser.guidance_kwargs(self, scale)


# Prompts as they are: the pipeline's own cleaning depends on packages that may not be installed.
AS_IS = {"clean_caption": False}


class PixArtDenoiser(TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``PixArtSigmaPipeline``.

    Conditions are the hidden states of the T5 and the mask of the prompt's own tokens.
    """

    encoded = ("hidden", "mask", "", "")
    encoding: ClassVar[Mapping[str, Any]] = {"do_classifier_free_guidance": False, **AS_IS}
    # the transformer's own size, not a neighbour of it from the pipeline's list
    options: ClassVar[Mapping[str, Any]] = {"use_resolution_binning": False, **AS_IS}

    def inputs(self, condition: Condition) -> dict[str, Any]:
        """The mask, and that no size is told apart."""
        added = {"resolution": None, "aspect_ratio": None}
        return super().inputs(condition) | {"added_cond_kwargs": added}


class SanaDenoiser(TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``SanaPipeline``: a flow.

    Conditions are the hidden states of the language model and the mask of what it read.
    """

    flow_only = True
    encoded = ("hidden", "mask", "", "")
    options: ClassVar[Mapping[str, Any]] = {"use_resolution_binning": False}

    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """As in the pipeline's own call a prompt follows an instruction, the null prompt not."""
        return self._instructed(prompts, call_default(self.pipeline, "complex_human_instruction"))

    def _instructed(self, prompts: Sequence[str], instruction: list[str] | None) -> Condition:
        return Condition.cat(
            [
                self._encode([p], complex_human_instruction=instruction if p else None)
                for p in prompts
            ]
        )

    def text_embedding(self, prompts: Sequence[str]) -> Tensor:
        """Mean of the hidden states over the tokens of the prompt, without an instruction."""
        return whole_prompts(self._instructed(prompts, None))
