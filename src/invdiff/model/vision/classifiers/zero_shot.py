"""CLIP and SigLIP as classifiers: the class whose texts fit a picture best."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from invdiff.errors import ModelError
from invdiff.model.vision.classifiers.vision import VisionModel
from invdiff.model.vision.transformers_models import image_vectors, load_locally, text_vectors


class ZeroShotClassifier:
    """One attribute, its classes told by texts; several texts of a class are averaged.

    Probabilities are the softmax of the model's scaled cosines (Radford et al. 2021, section 3.1).
    SigLIP was trained with a sigmoid for each pair, whose bias cancels in the softmax.
    """

    def __init__(self, name: str, attribute: str, texts: Mapping[str, Sequence[str]]) -> None:
        """ModelError when there is no such model, or it reads no text."""
        from transformers import AutoTokenizer

        self.vision = VisionModel(name, "AutoModel")
        if not hasattr(self.vision.model, "get_text_features"):
            raise ModelError(
                f"{name} ({type(self.vision.model).__name__}) reads no text: give a CLIP or "
                "SigLIP model, or use it as model:NAME if it is a classifier"
            )
        tokeniser = load_locally(name, AutoTokenizer)
        self.classes = {attribute: tuple(texts)}
        self.side = self.vision.side
        self.extractor = f"image embeddings of {self.vision.name}"
        self.facts: dict[str, Any] = {
            "attribute": attribute,
            "trained_on": None,
            "texts": {klass: list(words) for klass, words in texts.items()},
        }
        vectors = [self._texts(tokeniser, words).mean(0) for words in texts.values()]
        self.anchors = functional.normalize(torch.stack(vectors), dim=1)
        self.scale = float(self.vision.model.logit_scale.exp())

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (count, dims)."""

        def vectors(prepared: Tensor) -> Tensor:
            return functional.normalize(image_vectors(self.vision.model, prepared), dim=1)

        return self.vision.each(images, vectors)

    def classify(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Probabilities (count, classes) of the attribute."""
        cosines = torch.from_numpy(features) @ self.anchors.T
        (attribute,) = self.classes
        return {attribute: (self.scale * cosines).double().softmax(1).numpy()}

    @torch.no_grad()
    def _texts(self, tokeniser: Any, texts: Sequence[str]) -> Tensor:
        model = self.vision.model
        # SigLIP was trained on texts that are all padded to the full length.
        padding = "max_length" if model.config.model_type.startswith("siglip") else True
        return functional.normalize(text_vectors(model, tokeniser, texts, padding), dim=1)
