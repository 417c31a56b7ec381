"""Networks on the meta device from their configuration, and inputs of the shapes they take."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import ModelError
from invdiff.model.sizing.description import Component, Description

# Tokens of a prompt as the stock pipelines pad them, and what the network calls their width.
TEXTS = {
    "UNet2DConditionModel": (77, "cross_attention_dim"),
    "SD3Transformer2DModel": (77 + 256, "joint_attention_dim"),
    "FluxTransformer2DModel": (512, "joint_attention_dim"),
    "PixArtTransformer2DModel": (300, "caption_channels"),
    "SanaTransformer2DModel": (300, "caption_channels"),
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


def call(
    module: nn.Module, base: Description, batch: int, size: int, dtype: torch.dtype
) -> Callable[[], Any]:
    """One prediction for ``batch`` pictures of ``size`` pixels, on tensors without content.

    Raises:
        ModelError: the family's inputs are not known.
    """
    part = base.denoiser
    if part.kind not in TEXTS:
        raise ModelError(
            f"what {part.kind} takes is not known, so its memory cannot be estimated; known are: "
            + ", ".join(TEXTS)
        )
    with torch.device("meta"):
        inputs = _inputs(part, batch, size // base.latent_pixels, dtype)
    return lambda: module(**inputs, return_dict=False)


def guided_in_one_pass(part: Component) -> bool:
    """Whether guidance is an input of the network, so that a step is one pass (Flux dev)."""
    return part.kind == "FluxTransformer2DModel" and bool(part.config.get("guidance_embeds"))


def _inputs(part: Component, n: int, side: int, dtype: torch.dtype) -> dict[str, Any]:
    """What the network takes for n latents of side x side cells, by the names of its arguments."""
    config, (tokens, width) = part.config, TEXTS[part.kind]

    def empty(*shape: int) -> Tensor:
        return torch.empty(n, *shape, dtype=dtype)

    inputs: dict[str, Any] = {
        "hidden_states": empty(config.get("in_channels", 4), side, side),
        "encoder_hidden_states": empty(tokens, config[width]),
        "timestep": torch.empty(n, dtype=torch.long),
    }
    if part.kind in ("SD3Transformer2DModel", "FluxTransformer2DModel"):
        inputs["pooled_projections"] = empty(config["pooled_projection_dim"])
    if part.kind == "PixArtTransformer2DModel":
        inputs["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
    if part.kind == "UNet2DConditionModel":
        inputs["sample"] = inputs.pop("hidden_states")
    if config.get("addition_embed_type") == "text_time":
        sizes = 6 * config["addition_time_embed_dim"]
        pooled = config["projection_class_embeddings_input_dim"] - sizes
        inputs["added_cond_kwargs"] = {"text_embeds": empty(pooled), "time_ids": empty(6)}
    if part.kind == "FluxTransformer2DModel":
        pieces = (side // 2) ** 2  # the pipeline packs 2 x 2 cells into one
        inputs |= {
            "hidden_states": empty(pieces, config["in_channels"]),
            "timestep": empty(),
            "img_ids": torch.empty(pieces, 3, dtype=dtype),
            "txt_ids": torch.empty(tokens, 3, dtype=dtype),
            "guidance": torch.empty(n) if guided_in_one_pass(part) else None,
        }
    return inputs
