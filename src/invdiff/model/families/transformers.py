"""Flux.1, PixArt-Sigma and Sana.

Flux is a flow on latents that are packed two by two, with the guidance scale as an input. The
others are conditioned by hidden states of a language model and their mask.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from invdiff.model.denoiser import Condition
from invdiff.model.families.base import TransformerDenoiser, whole_prompts

# Guidance that a distilled model is told while the method asks it. At 1 its prediction is that of
# the data, which is what scores and training compare it with.
UNGUIDED = 1.0


class FluxDenoiser(TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``FluxPipeline``.

    Latents are those of the autoencoder, not packed. Conditions are the hidden states of the T5,
    and what the CLIP says of the whole prompt.
    """

    flow_only = True
    encoded = ("hidden", "pooled", "")
    encoding: ClassVar[Mapping[str, Any]] = {"prompt_2": None}
    patch = 2  # the pipeline packs two by two cells; the transformer's own patch is 1

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        self._distilled: bool = self.module.config.guidance_embeds

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

    def blocks(self) -> list[nn.Module]:
        """The blocks with two streams, then those with one."""
        return [*self.module.transformer_blocks, *self.module.single_transformer_blocks]

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """A distilled model is told the scale; any other is compared with the null prompt."""
        options = super().guidance_kwargs(scale)
        if not self._distilled:
            options |= {"true_cfg_scale": options.pop("guidance_scale"), "negative_prompt": ""}
        return options

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """Hidden states and pooled embeddings instead of texts."""
        options = super().conditioned_kwargs(own, null, scale)
        # A distilled model compares with no other prompt.
        negative = [name for name in options if name.startswith("negative")]
        unused = negative if self._distilled else ["negative_prompt"]
        return {name: options[name] for name in options if name not in unused}

    def unpack_latents(self, drawn: Tensor) -> Tensor:
        """Unpacked; pictures are square."""
        rows = self.image_size // self.pipeline.vae_scale_factor // 2
        return unpacked(drawn, (rows, rows))


def unpacked(packed: Tensor, grid: tuple[int, int]) -> Tensor:
    """Latents (n, c, 2 rows, 2 columns) of tokens (n, rows * columns, 4 c)."""
    blocks = packed.unflatten(1, grid).unflatten(3, (-1, 2, 2))
    latents: Tensor = blocks.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return latents


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
        arguments = inspect.signature(self.pipeline.__call__).parameters
        instruction = arguments["complex_human_instruction"].default
        return self._instructed(prompts, instruction)

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
