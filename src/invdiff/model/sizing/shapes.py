"""Networks on the meta device from their configuration, and inputs of the shapes they take."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import ModelError
from invdiff.model.sizing.description import Component, Description

# Tokens of a prompt as the stock pipelines pad them.
TOKENS = {
    "UNet2DConditionModel": 77,
    "SD3Transformer2DModel": 77 + 256,
    "FluxTransformer2DModel": 512,
    "PixArtTransformer2DModel": 300,
    "SanaTransformer2DModel": 300,
}


def build(part: Component) -> nn.Module | None:
    """The component on the meta device; None for what has no weights (tokenizers, schedulers)."""
    import diffusers
    import transformers

    library: Any = {"diffusers": diffusers, "transformers": transformers}.get(part.library)
    if library is None:  # a module of its pipeline, as the safety checker
        library = getattr(diffusers.pipelines, part.library, None)
    kind = getattr(library, part.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        return None
    with torch.device("meta"):
        if part.library == "diffusers":
            module: nn.Module = kind.from_config(dict(part.config))  # type: ignore[attr-defined]
        else:
            config = kind.config_class.from_dict(dict(part.config))  # type: ignore[attr-defined]
            module = kind(config)
    return module.eval().requires_grad_(False)


def parameter_count(module: nn.Module) -> int:
    """How many numbers the network has."""
    return sum(tensor.numel() for tensor in module.parameters())


def call(
    module: nn.Module, base: Description, batch: int, size: int, dtype: torch.dtype
) -> Callable[[], Any]:
    """One prediction for ``batch`` pictures of ``size`` pixels, on tensors without content.

    Raises:
        ModelError: the family's inputs are not known.
    """
    part = base.denoiser
    if part.kind not in _INPUTS:
        raise ModelError(
            f"what {part.kind} takes is not known, so its memory cannot be estimated; known are: "
            + ", ".join(_INPUTS)
        )
    side = size // base.latent_pixels
    with torch.device("meta"):
        inputs = _INPUTS[part.kind](part.config, batch, side, TOKENS[part.kind], dtype)
    return lambda: module(**inputs, return_dict=False)


def guided_in_one_pass(part: Component) -> bool:
    """Whether guidance is an input of the network, so that a step is one pass (Flux dev)."""
    return part.kind == "FluxTransformer2DModel" and bool(part.config.get("guidance_embeds"))


def _unet(config: Mapping[str, Any], n: int, side: int, tokens: int, dtype: Any) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "sample": torch.empty(n, config.get("in_channels", 4), side, side, dtype=dtype),
        "timestep": torch.empty(n, dtype=torch.long),
        "encoder_hidden_states": torch.empty(n, tokens, config["cross_attention_dim"], dtype=dtype),
    }
    if config.get("addition_embed_type") == "text_time":
        pooled = (
            config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        )
        inputs["added_cond_kwargs"] = {
            "text_embeds": torch.empty(n, pooled, dtype=dtype),
            "time_ids": torch.empty(n, 6, dtype=dtype),
        }
    return inputs


def _sd3(config: Mapping[str, Any], n: int, side: int, tokens: int, dtype: Any) -> dict[str, Any]:
    return {
        "hidden_states": torch.empty(n, config["in_channels"], side, side, dtype=dtype),
        "encoder_hidden_states": torch.empty(n, tokens, config["joint_attention_dim"], dtype=dtype),
        "pooled_projections": torch.empty(n, config["pooled_projection_dim"], dtype=dtype),
        "timestep": torch.empty(n, dtype=torch.long),
    }


def _flux(config: Mapping[str, Any], n: int, side: int, tokens: int, dtype: Any) -> dict[str, Any]:
    pieces = (side // 2) ** 2  # the pipeline packs 2 x 2 cells into one
    inputs: dict[str, Tensor] = {
        "hidden_states": torch.empty(n, pieces, config["in_channels"], dtype=dtype),
        "encoder_hidden_states": torch.empty(n, tokens, config["joint_attention_dim"], dtype=dtype),
        "pooled_projections": torch.empty(n, config["pooled_projection_dim"], dtype=dtype),
        "timestep": torch.empty(n, dtype=dtype),
        "img_ids": torch.empty(pieces, 3, dtype=dtype),
        "txt_ids": torch.empty(tokens, 3, dtype=dtype),
    }
    if config.get("guidance_embeds"):
        inputs["guidance"] = torch.empty(n, dtype=torch.float32)
    return inputs


def _captioned(
    config: Mapping[str, Any], n: int, side: int, tokens: int, dtype: Any
) -> dict[str, Any]:
    return {
        "hidden_states": torch.empty(n, config["in_channels"], side, side, dtype=dtype),
        "encoder_hidden_states": torch.empty(n, tokens, config["caption_channels"], dtype=dtype),
        "timestep": torch.empty(n, dtype=torch.long),
    }


def _pixart(
    config: Mapping[str, Any], n: int, side: int, tokens: int, dtype: Any
) -> dict[str, Any]:
    size = {"resolution": None, "aspect_ratio": None}
    return _captioned(config, n, side, tokens, dtype) | {"added_cond_kwargs": size}


_INPUTS: dict[str, Callable[..., dict[str, Any]]] = {
    "UNet2DConditionModel": _unet,
    "SD3Transformer2DModel": _sd3,
    "FluxTransformer2DModel": _flux,
    "PixArtTransformer2DModel": _pixart,
    "SanaTransformer2DModel": _captioned,
}
