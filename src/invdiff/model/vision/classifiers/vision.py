"""Vision models of transformers with their own preprocessing."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.model.vision.transformers_models import load_complete, load_locally

BATCH = 32


class VisionModel:
    """A model with its image processor. ``side`` is that of its input in pixels."""

    def __init__(self, name: str, loader: str) -> None:
        """Load ``name`` with the class ``loader`` of transformers; ModelError if that fails."""
        import transformers

        self.name = Path(name).name if Path(name).is_dir() else name
        self.model = load_complete(name, getattr(transformers, loader))
        self.processor = load_locally(name, transformers.AutoImageProcessor, backend="pil")
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
