"""Vision models of transformers as extractors (DINOv2, the image tower of CLIP), and CLIP's text.

Models come from a folder or from the local hub cache, as safetensors; nothing is downloaded and no
code of theirs is run.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from invdiff.errors import ModelError
from invdiff.model.vision.extractors.common import BATCH, IMAGENET, Extractor, file_hash

NO_MODEL = "give the folder of a model with safetensors weights, or a hub id that is in the cache"


def load(name: str, weights: Path) -> Extractor:
    """The pooled output of a vision model; of a model with two towers its projected image side."""
    model, folder = _model(name, weights)
    side, statistics = _input_of(model, folder)
    return Extractor(
        name=Path(name).name if Path(name).is_dir() else name,
        sha256=_hash(folder),
        dims=_width(model, side),
        side=side,
        network=lambda pictures: _pooled(model, pictures),
        statistics=statistics,
    )


@dataclass(frozen=True)
class TextAndImage:
    """A CLIP-like model: how well a text fits a picture, both as vectors of length 1."""

    image: Extractor
    model: Any
    tokeniser: Any

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, dims) of texts, cut off where the model's context ends."""
        most = getattr(self.model.config.text_config, "max_position_embeddings", None)
        parts = []
        for at in range(0, len(texts), BATCH):
            tokens = self.tokeniser(
                list(texts[at : at + BATCH]),
                padding=True,
                truncation=True,
                max_length=most,
                return_tensors="pt",
            )
            kept = {key: tokens[key] for key in ("input_ids", "attention_mask") if key in tokens}
            parts.append(_vector(self.model.get_text_features(**kept)))
        return F.normalize(torch.cat(parts).float(), dim=1).numpy()


def load_clip(name: str, weights: Path) -> TextAndImage:
    """A model with both towers; ModelError for any other."""
    from transformers import AutoTokenizer

    model, folder = _model(name, weights)
    if not hasattr(model, "get_text_features"):
        raise ModelError(
            f"{name} ({type(model).__name__}) reads no text: CLIP-T needs a model with both towers"
        )
    try:
        tokeniser = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as problem:
        reason = _line(problem)
        raise ModelError(f"the tokeniser of {name} cannot be loaded ({reason})") from problem
    return TextAndImage(load(name, weights), model, tokeniser)


def _model(name: str, weights: Path) -> tuple[Any, Path]:
    from transformers import AutoModel

    folder = next((place for place in (Path(name), weights / name) if place.is_dir()), None)
    if folder is None:
        folder = _in_cache(name)
    try:
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, ImportError) as problem:
        raise ModelError(f"{name} cannot be loaded ({_line(problem)}): {NO_MODEL}") from problem
    if not (hasattr(model, "get_image_features") or model.main_input_name == "pixel_values"):
        raise ModelError(f"{name} ({type(model).__name__}) reads no pictures: {NO_MODEL}")
    return model.requires_grad_(False).eval(), folder


def _in_cache(name: str) -> Path:
    from transformers.utils import cached_file

    try:
        found = cached_file(name, "config.json", local_files_only=True)
    except (OSError, ValueError) as problem:
        raise ModelError(f"{name} is not in the hub cache: {NO_MODEL}") from problem
    return Path(str(found)).parent


def _line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:160]


def _hash(folder: Path) -> str:
    """One SHA-256 over the weights and the configuration, by name."""
    found = hashlib.sha256()
    for path in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        found.update(f"{path.name} {file_hash(path)}\n".encode())
    return found.hexdigest()


def _input_of(model: Any, folder: Path) -> tuple[int, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Side of the input and channel statistics, from the preprocessor's file or the model."""
    from transformers import AutoImageProcessor

    config = getattr(model.config, "vision_config", model.config)
    side, statistics = int(getattr(config, "image_size", 224)), IMAGENET
    try:
        known = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    except (OSError, ValueError, ImportError):
        return side, statistics
    crop = getattr(known, "crop_size", None) or getattr(known, "size", None) or {}
    side = int(dict(crop).get("height") or dict(crop).get("shortest_edge") or side)
    if getattr(known, "image_mean", None):
        statistics = (tuple(known.image_mean), tuple(known.image_std))
    return side, statistics


def _width(model: Any, side: int) -> int:
    with torch.no_grad():
        return int(_pooled(model, torch.zeros(1, 3, side, side)).shape[1])


def _pooled(model: Any, pictures: Tensor) -> Tensor:
    if hasattr(model, "get_image_features"):
        return _vector(model.get_image_features(pixel_values=pictures))
    return _vector(model(pixel_values=pictures))


def _vector(output: Any) -> Tensor:
    """One vector an input: transformers 5 wraps it, 4 did not."""
    if isinstance(output, Tensor):
        return output
    pooled = getattr(output, "pooler_output", None)
    vector: Tensor = output.last_hidden_state[:, 0] if pooled is None else pooled
    return vector.flatten(1)
