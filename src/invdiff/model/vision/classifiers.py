"""Classifiers of pictures behind one protocol, whatever network is inside.

``AttributeClassifier`` (model/vision/attribute_classifier.py) and ``BackboneClassifier`` are files
made by ``invdiff data classifier``; ``ZeroShotClassifier`` and ``PretrainedClassifier`` are models
of others. Which one a setting means is decided in engine/classifiers/choose.py.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from invdiff.errors import ModelError, refused
from invdiff.model.vision.transformers_models import TextTower, VisionModel, image_vectors

BACKBONE_KIND = "invdiff backbone classifier"


class Classifier(Protocol):
    """What pictures show, estimated.

    ``classes`` names the classes of each attribute, ``side`` is the size in pixels that data is
    opened with, ``extractor`` says in words what the features are. ``facts`` holds ``attribute``
    (the one whose parity is measured), ``trained_on`` (pictures; None if unknown) and, where it was
    measured, ``attributes``: for each attribute accuracy and confusion on held-out pictures.
    """

    classes: dict[str, tuple[str, ...]]
    side: int
    extractor: str
    facts: dict[str, Any]

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (count, dims) of ``images`` (count, height, width, 3), RGB 0..255."""
        ...

    def classify(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Probabilities (count, classes) of every attribute, rows summing to 1."""
        ...


class OfVisionModel(ABC):
    """A :class:`Classifier` of one attribute on what a vision model says of pictures."""

    def __init__(
        self, vision: VisionModel, attribute: str, classes: Sequence[str], what: str
    ) -> None:
        self.vision = vision
        self.classes = {attribute: tuple(classes)}
        self.side = vision.side
        self.extractor = f"{what} of {vision.name}"
        self.facts: dict[str, Any] = {"attribute": attribute, "trained_on": None}

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The model's own features (count, dims)."""
        return self.vision.features(images)

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Logits (count, classes) of features."""

    def classify(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Probabilities (count, classes) of the attribute."""
        (attribute,) = self.classes
        return {attribute: self.logits(torch.from_numpy(features)).double().softmax(1).numpy()}


class BackboneClassifier(OfVisionModel):
    """A linear classifier on a backbone's features; its file holds the classifier alone.

    Logits are features @ ``weight``.T + ``bias``, one attribute; rows of weight are classes.
    """

    def __init__(
        self, vision: VisionModel, attribute: str, classes: tuple[str, ...], head: Mapping[str, Any]
    ) -> None:
        super().__init__(vision, attribute, classes, "features")
        self.weight: Tensor = head["weight"].float()
        self.bias: Tensor = head["bias"].float()

    def logits(self, features: Tensor) -> Tensor:
        """Logits (count, classes)."""
        return features @ self.weight.T + self.bias

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write the head; the header names the backbone and the hash of its weights."""
        told = {"classes": json.dumps(self.classes), "facts": json.dumps(facts)}
        save_file({"weight": self.weight, "bias": self.bias}, path, {"kind": BACKBONE_KIND, **told})

    @classmethod
    def build(cls, header: Mapping[str, str], tensors: Mapping[str, Tensor], path: Path) -> Self:
        """From the content of a file; ModelError when the backbone is missing or another one."""
        way_out = "train it again with `invdiff data classifier`"
        with refused(f"{path} cannot be read as a classifier", way_out):
            facts = json.loads(header["facts"])
            vision = VisionModel(facts["backbone"], "AutoModel")
            if vision.sha256 != facts["backbone_sha256"]:
                raise ModelError(
                    f"{path} was trained on other weights of {facts['backbone']} than are there "
                    f"now: {way_out}"
                )
            ((attribute, classes),) = json.loads(header["classes"]).items()
            found = cls(vision, attribute, tuple(classes), tensors)
        found.facts = facts
        return found


class PretrainedClassifier(OfVisionModel):
    """Any image classifier of transformers, its labels mapped to the classes of one attribute.

    A class may stand for several labels of the model, the rest is left out. Probabilities are those
    of the named labels, rescaled to sum to 1.
    """

    def __init__(self, name: str, attribute: str, labels: Mapping[str, Sequence[str]]) -> None:
        """No ``labels`` takes the model's own, each a class. ModelError for an unknown label."""
        vision = VisionModel(name, "AutoModelForImageClassification")
        own = [vision.model.config.id2label[k] for k in range(vision.model.num_labels)]
        labels = labels or {label: [label] for label in own}
        unknown = sorted({label for group in labels.values() for label in group} - set(own))
        if unknown:
            raise ModelError(
                f"{name} has no label {unknown[0]!r}: map evaluate.classes to its labels, which "
                f"are {', '.join(own[:20])}{' and more' if len(own) > 20 else ''}"
            )
        super().__init__(vision, attribute, tuple(labels), "logits")
        self.columns = [[own.index(label) for label in group] for group in labels.values()]
        self.facts["labels"] = {klass: list(group) for klass, group in labels.items()}

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The model's logits (count, labels)."""
        return self.vision.each(images, lambda prepared: self.vision.model(prepared).logits)

    def logits(self, features: Tensor) -> Tensor:
        """Those of the classes, in the precision that sums of labels need."""
        groups = [features.double()[:, columns].logsumexp(1) for columns in self.columns]
        return torch.stack(groups, dim=1)


class ZeroShotClassifier(OfVisionModel):
    """CLIP and SigLIP as classifiers: the class whose texts fit a picture best.

    Several texts of a class are averaged. Probabilities are the softmax of the model's scaled
    cosines (Radford et al. 2021, section 3.1). SigLIP was trained with a sigmoid for each pair,
    whose bias cancels in the softmax.
    """

    def __init__(self, name: str, attribute: str, texts: Mapping[str, Sequence[str]]) -> None:
        """ModelError when there is no such model, or it reads no text."""
        vision = VisionModel(name, "AutoModel")
        each = [text for words in texts.values() for text in words]
        vectors = TextTower(name, vision.model)(each).split([len(t) for t in texts.values()])
        super().__init__(vision, attribute, tuple(texts), "image embeddings")
        self.facts["texts"] = {klass: list(words) for klass, words in texts.items()}
        self.anchors = normalize(torch.stack([own.mean(0) for own in vectors]), dim=1)
        self.scale = float(vision.model.logit_scale.exp())

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (count, dims)."""
        model = self.vision.model
        return self.vision.each(images, lambda shown: normalize(image_vectors(model, shown), dim=1))

    def logits(self, features: Tensor) -> Tensor:
        """Scaled cosines."""
        return self.scale * (features @ self.anchors.T)
