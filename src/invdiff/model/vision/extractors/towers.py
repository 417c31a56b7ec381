"""Vision models of transformers as extractors (DINOv2, CLIP's image tower), and CLIP's text."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from invdiff.errors import ModelError, refused
from invdiff.model.vision.extractors.common import IMAGENET, Extractor, file_hash
from invdiff.model.vision.transformers_models import (
    WAY_OUT,
    TextTower,
    image_vectors,
    input_side,
    load_complete,
    shown_name,
)


def load(name: str, weights: Path) -> Extractor:
    """The pooled output of a vision model; of a model with two towers its projected image side."""
    return _extractor(name, *_model(name, weights))


def _extractor(name: str, model: Any, folder: Path) -> Extractor:
    side, statistics = _input_of(model, folder)
    network = partial(image_vectors, model)
    return Extractor(
        name=shown_name(name),
        sha256=_hash(folder),
        dims=network(torch.zeros(1, 3, side, side)).shape[1],
        side=side,
        network=network,
        statistics=statistics,
    )


@dataclass(frozen=True)
class TextAndImage:
    """A CLIP-like model: how well a text fits a picture, both as vectors of length 1."""

    image: Extractor
    text: TextTower

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, dims) of texts, cut off where the model's context ends."""
        return self.text(texts).numpy()


def load_clip(name: str, weights: Path) -> TextAndImage:
    """A model with both towers; ModelError for any other."""
    model, folder = _model(name, weights)
    return TextAndImage(_extractor(name, model, folder), TextTower(str(folder), model))


def _model(name: str, weights: Path) -> tuple[Any, Path]:
    from transformers import AutoModel

    folder = next((place for place in (Path(name), weights / name) if place.is_dir()), None)
    folder = folder or _in_cache(name)
    model = load_complete(str(folder), AutoModel)
    if not (hasattr(model, "get_image_features") or model.main_input_name == "pixel_values"):
        raise ModelError(f"{name} ({type(model).__name__}) reads no pictures: {WAY_OUT}")
    return model, folder


def _in_cache(name: str) -> Path:
    from transformers.utils import cached_file

    with refused(f"{name} is not in the hub cache", WAY_OUT):
        return Path(str(cached_file(name, "config.json", local_files_only=True))).parent


def _hash(folder: Path) -> str:
    """One SHA-256 over the weights and the configuration, by name."""
    found = hashlib.sha256()
    for path in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        found.update(f"{path.name} {file_hash(path)}\n".encode())
    return found.hexdigest()


def _input_of(model: Any, folder: Path) -> tuple[int, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Side of the input and channel statistics, from the preprocessor's file or the model."""
    from transformers import AutoImageProcessor

    try:
        known = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    except (OSError, ValueError, ImportError):
        known = None
    statistics = IMAGENET
    if getattr(known, "image_mean", None):
        statistics = (tuple(known.image_mean), tuple(known.image_std))
    return input_side(model, known), statistics
