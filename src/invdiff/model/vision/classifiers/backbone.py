"""A linear classifier on the features of a vision model; the file holds the classifier alone."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from invdiff.errors import ModelError
from invdiff.model.vision.classifiers.vision import VisionModel
from invdiff.model.vision.transformers_models import image_vectors

KIND = "invdiff backbone classifier"


class BackboneClassifier:
    """Logits are features @ ``weight``.T + ``bias``, one attribute; rows of weight are classes."""

    def __init__(
        self, vision: VisionModel, attribute: str, classes: tuple[str, ...], head: Mapping[str, Any]
    ) -> None:
        self.vision = vision
        self.classes = {attribute: classes}
        self.weight: Tensor = head["weight"].float()
        self.bias: Tensor = head["bias"].float()
        self.side = vision.side
        self.extractor = f"features of {vision.name}"
        self.facts: dict[str, Any] = {}

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The backbone's features (count, dims)."""
        return features(self.vision, images)

    def classify(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Probabilities (count, classes) of the attribute."""
        logits = torch.from_numpy(features) @ self.weight.T + self.bias
        (attribute,) = self.classes
        return {attribute: logits.double().softmax(1).numpy()}

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write the head; the header names the backbone and the hash of its weights."""
        header = {
            "kind": KIND,
            "classes": json.dumps(self.classes),
            "facts": json.dumps(facts),
        }
        save_file({"weight": self.weight, "bias": self.bias}, path, header)

    @classmethod
    def build(cls, header: Mapping[str, str], tensors: Mapping[str, Tensor], path: Path) -> Self:
        """From the content of a file; ModelError when the backbone is missing or another one."""
        facts = json.loads(header["facts"])
        vision = VisionModel(facts["backbone"], "AutoModel")
        if vision.sha256 != facts["backbone_sha256"]:
            raise ModelError(
                f"{path} was trained on other weights of {facts['backbone']} than are there now: "
                "train it again with `invdiff data classifier`"
            )
        ((attribute, classes),) = json.loads(header["classes"]).items()
        found = cls(vision, attribute, tuple(classes), tensors)
        found.facts = facts
        return found


def features(vision: VisionModel, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Projected image embeddings of a model with two towers, else the pooled output."""
    return vision.each(images, partial(image_vectors, vision.model))
