"""Families that read prompts with a whole language model: Qwen-Image, Z-Image and FLUX.2.

All are flows. Prompts stand within a template (an instruction, or the turn of a user in a chat),
and keep as many tokens as they have, or are filled up and read without a mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from invdiff.errors import ModelError
from invdiff.model.denoiser import Condition
from invdiff.model.families.base import PipelineDenoiser
from invdiff.model.families.transformers import (
    PackedDenoiser,
    TransformerDenoiser,
    packed,
    token_map,
    unpacked,
)
from invdiff.model.texts import call_default


class QwenImageDenoiser(PackedDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``QwenImagePipeline``.

    Conditions are hidden states after the template's first tokens, and the mask of what there is.
    The pipeline scales what it makes of two predictions to the length of the conditional one, token
    by token, and compares with no prompt unless one is given: the empty one, here.
    """

    arguments: ClassVar[Mapping[str, str]] = {
        "hidden": "prompt_embeds",
        "mask": "prompt_embeds_mask",
    }
    frames = True

    @property
    def encoding(self) -> Mapping[str, Any]:  # type: ignore[override]
        """The pipeline's call reads less than its ``encode_prompt`` does by default."""
        return {"max_sequence_length": call_default(self.pipeline, "max_sequence_length")}

    def _named(self, found: Sequence[Any]) -> Condition:
        hidden, mask = found  # no mask: there is something everywhere
        kept = hidden.new_ones(hidden.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        return Condition({"hidden": hidden, "mask": kept})

    def places(self, latent: Tensor, condition: Condition) -> dict[str, Any]:
        """One frame of the grid, and the mask unless it keeps everything."""
        mask = condition.tensors["mask"]
        return {
            "encoder_hidden_states_mask": None if bool(mask.all()) else mask,
            "img_shapes": [[(1, *self.grid)]] * len(latent),
        }

    def compares(self, scale: float) -> bool:
        """Above scale 1; the pipeline warns of what it doesn't use."""
        return scale > 1


class ChatDenoiser(PipelineDenoiser):
    """A family in whose conditions the prompt is the turn of a user in a chat."""

    chat: ClassVar[Mapping[str, Any]]
    """Arguments of the tokenizer's template."""
    encoded = ("hidden", "")

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        if self.reader is not None:
            self.reader = replace(self.reader, around=len(self.tokens("")))

    def messages(self, prompt: str) -> list[dict[str, Any]]:
        """The chat, as the pipeline has it."""
        return [{"role": "user", "content": prompt}]

    def tokens(self, prompt: str) -> list[int]:
        """The whole chat, as the tokenizer spells it."""
        tokenizer = self.pipeline.tokenizer
        text = tokenizer.apply_chat_template(self.messages(prompt), tokenize=False, **self.chat)
        found: list[int] = getattr(tokenizer, "tokenizer", tokenizer)(text).input_ids
        return found

    def text_embedding(self, prompts: Sequence[str]) -> Tensor:
        """Mean of the hidden states from where a chat is no longer that of the empty prompt.

        What comes before is the same for all prompts, and has states far larger than all others.
        """
        hidden = self.encode_prompts(prompts).tensors["hidden"].float()
        empty, means = self.tokens(""), []
        for prompt, states in zip(prompts, hidden, strict=True):
            own = self.tokens(prompt)[: len(states)]
            alike = [a == b for a, b in zip(own, empty, strict=False)]
            first = min([*alike, False].index(False), len(own) - 1)
            means.append(self.within(states, len(own))[first:].mean(0))
        return torch.stack(means)

    def within(self, states: Tensor, count: int) -> Tensor:
        """The states of the ``count`` tokens there are, without the filling."""
        return states[:count]


class ZImageDenoiser(ChatDenoiser, TransformerDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``ZImagePipeline``.

    Conditions are the hidden states of the Qwen3 before its last layer, and the mask of what there
    is. The network takes lists, is told how clean a latent is, and predicts the way to the picture,
    which a flow goes backwards.
    """

    flow_only = True
    patch = 2
    encoding: ClassVar[Mapping[str, Any]] = {"do_classifier_free_guidance": False}
    chat: ClassVar[Mapping[str, Any]] = {"add_generation_prompt": True, "enable_thinking": True}

    def _named(self, found: Sequence[Any]) -> Condition:
        states, _ = found
        lengths = torch.tensor([len(one) for one in states], device=states[0].device)
        hidden = pad_sequence(states, batch_first=True)
        places = torch.arange(hidden.shape[1], device=hidden.device)
        return Condition({"hidden": hidden, "mask": places < lengths[:, None]})

    def embeddings(self, condition: Condition) -> dict[str, Any]:
        """A list, of as many states as each prompt has."""
        hidden, mask = condition.tensors["hidden"], condition.tensors["mask"]
        return {"prompt_embeds": [one[kept] for one, kept in zip(hidden, mask, strict=True)]}

    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        last = self.schedule.timesteps - 1
        states = self.embeddings(condition)["prompt_embeds"]
        said = self.module(
            list(latent.unsqueeze(2)),
            (last - timestep.float()) / last,
            [one.to(latent.dtype) for one in states],
            return_dict=False,
        )[0]
        return -torch.stack(said).squeeze(2)

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The pipeline counts from the conditional prediction: own + g (own - null)."""
        return super().guidance_kwargs(scale) | {"guidance_scale": scale - 1}

    def blocks(self) -> list[nn.Module]:
        """Those of text and picture together."""
        return list(self.module.layers)

    def as_map(self, output: Any) -> Tensor:
        """The picture's tokens, which come first."""
        return token_map(output[:, : self.grid[0] * self.grid[1]], self.grid)


class Flux2KleinDenoiser(ChatDenoiser, PackedDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``Flux2KleinPipeline``.

    Conditions are the hidden states of three layers of the Qwen3, side by side. Latents are scaled
    by the statistics that the autoencoder keeps of each of four neighbouring cells.
    """

    encoding: ClassVar[Mapping[str, Any]] = {}
    chat: ClassVar[Mapping[str, Any]] = {"add_generation_prompt": True, "enable_thinking": False}
    latents_by_autoencoder = True

    def scaled(self, latent: Tensor) -> Tensor:
        """As the pipeline scales pictures that it is given."""
        vae, (rows, columns) = self.pipeline.vae, latent.shape[-2:]
        mean = vae.bn.running_mean.to(latent)
        spread = (vae.bn.running_var.to(latent) + vae.config.batch_norm_eps).sqrt()
        return unpacked((packed(latent) - mean) / spread, (rows // 2, columns // 2))

    def unpack_latents(self, drawn: Tensor) -> Tensor:
        """The pipeline gives them as the autoencoder has them."""
        return self.scaled(drawn)

    def places(self, latent: Tensor, condition: Condition) -> dict[str, Any]:
        """Four numbers for each token."""
        found = {
            "txt_ids": self.pipeline._prepare_text_ids(condition.tensors["hidden"]),
            "img_ids": self.pipeline._prepare_latent_ids(latent[..., ::2, ::2]),
        }
        return {name: ids.to(latent.device) for name, ids in found.items()}

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """The scale. ModelError for another one than 1 where the pipeline would not heed it."""
        if scale != 1 and self.pipeline.config.get("is_distilled", False):
            raise ModelError(
                f"this {type(self.pipeline).__name__} was distilled to few steps and does not heed "
                f"a guidance scale, here {scale:g}: set calibrate.guidance_scale and "
                "sample.guidance_scales to 1, or take the base model"
            )
        return TransformerDenoiser.guidance_kwargs(self, scale)


class Flux2Denoiser(Flux2KleinDenoiser):
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``Flux2Pipeline``: distilled to a scale.

    Conditions are the hidden states of three layers of the Mistral, side by side.
    """

    chat: ClassVar[Mapping[str, Any]] = {"add_generation_prompt": False}

    latents_by_autoencoder = False
    unpack_latents = PackedDenoiser.unpack_latents

    def messages(self, prompt: str) -> list[dict[str, Any]]:
        """After the pipeline's instruction."""
        told = {"system": self.pipeline.system_message, "user": prompt.replace("[IMG]", "")}
        return [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in told.items()
        ]

    def within(self, states: Tensor, count: int) -> Tensor:
        """The Mistral's tokenizer may fill up from the left."""
        words = getattr(self.pipeline.tokenizer, "tokenizer", self.pipeline.tokenizer)
        return states[-count:] if words.padding_side == "left" else states[:count]
