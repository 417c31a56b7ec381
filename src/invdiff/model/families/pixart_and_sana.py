"""PixArt-Sigma and Sana: conditioned by hidden states of a language model and their mask."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from invdiff.model.denoiser import Condition
from invdiff.model.families.base import TransformerDenoiser, whole_prompts

# Prompts as they are: the pipeline's own cleaning depends on packages that may not be installed.
AS_IS = {"clean_caption": False}


class PixArtDenoiser(TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``PixArtSigmaPipeline``.

    Conditions are the hidden states of the T5 and the mask of the prompt's own tokens.
    """

    encoded = ("hidden", "mask", "", "")
    encoding: ClassVar[Mapping[str, Any]] = {"do_classifier_free_guidance": False, **AS_IS}

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        return self.module(
            latent,
            encoder_hidden_states=condition.tensors["hidden"],
            encoder_attention_mask=condition.tensors["mask"],
            timestep=timestep,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The transformer's own size, not a neighbour of it from the pipeline's list."""
        return super().guidance_kwargs(scale) | {"use_resolution_binning": False, **AS_IS}


class SanaDenoiser(TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``SanaPipeline``: a flow.

    Conditions are the hidden states of the language model and the mask of what it read.
    """

    flow_only = True
    encoded = ("hidden", "mask", "", "")

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

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        return self.module(
            latent,
            encoder_hidden_states=condition.tensors["hidden"].to(latent.dtype),
            encoder_attention_mask=condition.tensors["mask"],
            timestep=timestep * self.module.config.timestep_scale,
            return_dict=False,
        )[0]

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The transformer's own size; the pipeline's default is 1024 whatever was loaded."""
        return super().guidance_kwargs(scale) | {"use_resolution_binning": False}
