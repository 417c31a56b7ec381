"""Vision models of transformers, alone or with a text side, from a folder or the hub cache.

Nothing is downloaded, no code of theirs is run, and weights are safetensors.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import ModelError

WAY_OUT = (
    "give a folder in the format of transformers with safetensors weights, or a hub id that is in "
    "the cache (`hf download ID` puts it there)"
)


def load_locally(name: str, loader: Any, **settings: Any) -> Any:
    """``loader.from_pretrained`` without network; ModelError that names what is missing."""
    try:
        return loader.from_pretrained(str(name), local_files_only=True, **settings)
    except (OSError, ValueError, ImportError, KeyError) as problem:
        reason = " ".join(str(problem).split())[:160]
        raise ModelError(f"{loader.__name__} cannot load {name} ({reason}): {WAY_OUT}") from problem


def load_complete(name: str, loader: Any) -> Any:
    """A model with all its weights: what a file lacks, the library would fill in at random."""
    model, info = load_locally(
        name, loader, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted(info["missing_keys"])
    if missing and all(key.startswith("pooler.") for key in missing):
        model.pooler = None  # an image classifier's file: the first token stands for the picture
    elif missing:
        raise ModelError(
            f"{name} has no weights for {missing[0]} of {type(model).__name__}: it was saved as a "
            "model of another kind"
        )
    return model.requires_grad_(False).eval()


def image_vectors(model: Any, pictures: Tensor) -> Tensor:
    """Projected image embeddings (n, dims) of a model with two towers, else the pooled output."""
    if hasattr(model, "get_image_features"):
        return _pooled(model.get_image_features(pixel_values=pictures))
    return _pooled(model(pixel_values=pictures))


def text_vectors(
    model: Any, tokeniser: Any, texts: Sequence[str], padding: str | bool = True
) -> Tensor:
    """Projected embeddings (n, dims) of texts, cut off where the model's context ends."""
    tokens = tokeniser(
        list(texts),
        padding=padding,
        truncation=True,
        max_length=getattr(model.config.text_config, "max_position_embeddings", None),
        return_tensors="pt",
    )
    known = {key: tokens[key] for key in ("input_ids", "attention_mask") if key in tokens}
    return _pooled(model.get_text_features(**known)).float()


def _pooled(output: Any) -> Tensor:
    """One vector a picture or text; the first token's where the model pools nothing."""
    vector = getattr(output, "pooler_output", None)
    found: Tensor = output.last_hidden_state[:, 0] if vector is None else vector
    return found.flatten(1)
