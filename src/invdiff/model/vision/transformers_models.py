"""Vision models of transformers, alone or with a text side, from a folder or the hub cache.

Nothing is downloaded, no code of theirs is run, and weights are safetensors.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from invdiff.errors import ModelError, refused
from invdiff.model.texts import reader_of, warn_of_cut

WAY_OUT = (
    "give a folder in the format of transformers with safetensors weights, or a hub id that is in "
    "the cache (`hf download ID` puts it there)"
)
BATCH = 32


class VisionModel:
    """A model with its own image processor. ``side`` is that of its input in pixels."""

    def __init__(self, name: str, loader: str) -> None:
        """Load ``name`` with the class ``loader`` of transformers; ModelError if that fails."""
        import transformers

        self.name = shown_name(name)
        self.model = load_complete(name, getattr(transformers, loader))
        self.processor = load_locally(name, transformers.AutoImageProcessor, backend="pil")
        self.side = input_side(self.model, self.processor)

    @torch.no_grad()
    def each(
        self, images: NDArray[np.uint8], vectors: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32]:
        """``vectors`` of the prepared pictures, in batches; no pictures give no rows."""
        if not len(images):
            return self.each(np.zeros((1, self.side, self.side, 3), np.uint8), vectors)[:0]
        starts = range(0, len(images), BATCH)
        parts = [vectors(self._prepared(images[at : at + BATCH])).float() for at in starts]
        return torch.cat(parts).numpy()

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Projected image embeddings of a model with two towers, else the pooled output."""
        return self.each(images, partial(image_vectors, self.model))

    def _prepared(self, images: NDArray[np.uint8]) -> Tensor:
        found: Tensor = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return found

    @property
    def sha256(self) -> str:
        """One hash of all weights, by name."""
        found = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            found.update(f"{name} {tuple(value.shape)}\n".encode())
            found.update(value.contiguous().numpy().tobytes())
        return found.hexdigest()


def shown_name(name: str) -> str:
    """A hub id as it is, a folder without the way to it."""
    return Path(name).name if Path(name).is_dir() else name


def input_side(model: Any, processor: Any) -> int:
    """Side in pixels of what an image processor makes, else of what the model was made for."""
    size = dict(getattr(processor, "crop_size", None) or getattr(processor, "size", None) or {})
    config = getattr(model.config, "vision_config", model.config)
    own = getattr(config, "image_size", 224)
    return int(size.get("height") or size.get("shortest_edge") or own)


def load_locally(name: str, loader: Any, **settings: Any) -> Any:
    """``loader.from_pretrained`` without network; ModelError that names what is missing."""
    with refused(f"{loader.__name__} cannot load {name}", WAY_OUT):
        return loader.from_pretrained(str(name), local_files_only=True, **settings)


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


class TextTower:
    """The text side of a CLIP or SigLIP model ``name``; ModelError for a model without one."""

    def __init__(self, name: str, model: Any) -> None:
        from transformers import AutoTokenizer

        if not hasattr(model, "get_text_features"):
            raise ModelError(
                f"{name} ({type(model).__name__}) reads no text: give a CLIP or SigLIP model, "
                "which has both towers; a classifier is asked for as model:NAME"
            )
        self.name, self.model = shown_name(name), model
        self.reader = reader_of(load_locally(name, AutoTokenizer), model.config.text_config)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (n, dims) of texts; of those that are longer than the context it is told.

        SigLIP was trained on small letters, padded to the full length, which it reads without a
        mask. The tokenizer of SigLIP 2 is that of Gemma, which knows of none of this.
        """
        siglip = self.model.config.model_type.startswith("siglip")
        texts = [text.lower() for text in texts] if siglip else texts
        warn_of_cut(self.reader, texts, f"texts for {self.name}")
        wanted = ("input_ids",) if siglip else ("input_ids", "attention_mask")
        parts = []
        for at in range(0, len(texts), BATCH):
            tokens = self.reader.tokenizer(
                list(texts[at : at + BATCH]),
                padding="max_length" if siglip else True,
                truncation=True,
                max_length=self.reader.limit,
                return_tensors="pt",
            )
            known = {key: tokens[key] for key in wanted if key in tokens}
            parts.append(_pooled(self.model.get_text_features(**known)).float())
        return normalize(torch.cat(parts), dim=1)


def _pooled(output: Any) -> Tensor:
    """One vector a picture or text; the first token's where the model pools nothing."""
    vector = getattr(output, "pooler_output", None)
    found: Tensor = output.last_hidden_state[:, 0] if vector is None else vector
    return found.flatten(1)
