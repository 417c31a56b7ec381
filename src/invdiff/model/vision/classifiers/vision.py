"""Vision models of transformers, from a folder or the hub cache, with their own preprocessing.

Nothing is downloaded, no code of theirs is run, and weights are safetensors.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import ModelError

BATCH = 32
WAY_OUT = (
    "give a folder in the format of transformers with safetensors weights, or a hub id that is in "
    "the cache (`hf download ID` puts it there)"
)


class VisionModel:
    """A model with its image processor. ``side`` is that of its input in pixels."""

    def __init__(self, name: str, loader: str) -> None:
        """Load ``name`` with the class ``loader`` of transformers; ModelError if that fails."""
        import transformers

        self.name = Path(name).name if Path(name).is_dir() else name
        self.model = _complete(name, getattr(transformers, loader))
        self.processor = load(name, transformers.AutoImageProcessor, backend="pil")
        size = dict(getattr(self.processor, "crop_size", None) or self.processor.size)
        self.side = int(size.get("height") or size["shortest_edge"])

    @torch.no_grad()
    def each(
        self, images: NDArray[np.uint8], vectors: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32]:
        """``vectors`` of the prepared pictures, in batches; no pictures give no rows."""
        parts = [
            vectors(self._prepared(images[at : at + BATCH])).float()
            for at in range(0, max(len(images), 1), BATCH)
        ]
        return torch.cat(parts).numpy()[: len(images)]

    @property
    def sha256(self) -> str:
        """One hash of all weights, by name."""
        found = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            found.update(f"{name} {tuple(value.shape)}\n".encode())
            found.update(value.contiguous().numpy().tobytes())
        return found.hexdigest()

    def _prepared(self, images: NDArray[np.uint8]) -> Tensor:
        if not len(images):
            images = np.zeros((1, self.side, self.side, 3), np.uint8)
        found: Tensor = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return found


def _complete(name: str, loader: Any) -> Any:
    """A model with all its weights: what a file lacks, the library would fill in at random."""
    model, info = load(
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


def load(name: str, loader: Any, **settings: Any) -> Any:
    """``loader.from_pretrained`` without network; ModelError that names what is missing."""
    try:
        return loader.from_pretrained(str(name), local_files_only=True, **settings)
    except (OSError, ValueError, ImportError, KeyError) as problem:
        reason = " ".join(str(problem).split())[:160]
        raise ModelError(f"{loader.__name__} cannot load {name} ({reason}): {WAY_OUT}") from problem


def pooled(output: Any) -> Tensor:
    """One vector a picture or text; the first token's where the model pools nothing."""
    vector = getattr(output, "pooler_output", None)
    found: Tensor = output.last_hidden_state[:, 0] if vector is None else vector
    return found.flatten(1)
