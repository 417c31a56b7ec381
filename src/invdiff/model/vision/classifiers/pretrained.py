"""Any image classifier of transformers, its labels mapped to the classes of one attribute."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from invdiff.errors import ModelError
from invdiff.model.vision.classifiers.vision import VisionModel


class PretrainedClassifier:
    """One attribute; a class may stand for several labels of the model, the rest is left out.

    Probabilities are those of the named labels, rescaled to sum to 1.
    """

    def __init__(self, name: str, attribute: str, labels: Mapping[str, Sequence[str]]) -> None:
        """No ``labels`` takes the model's own, each a class. ModelError for an unknown label."""
        self.vision = VisionModel(name, "AutoModelForImageClassification")
        own = [self.vision.model.config.id2label[k] for k in range(self.vision.model.num_labels)]
        labels = labels or {label: [label] for label in own}
        unknown = sorted({label for group in labels.values() for label in group} - set(own))
        if unknown:
            raise ModelError(
                f"{name} has no label {unknown[0]!r}: map evaluate.classes to its labels, which "
                f"are {', '.join(own[:20])}{' and more' if len(own) > 20 else ''}"
            )
        self.columns = [[own.index(label) for label in group] for group in labels.values()]
        self.classes = {attribute: tuple(labels)}
        self.side = self.vision.side
        self.extractor = f"logits of {self.vision.name}"
        self.facts: dict[str, Any] = {
            "attribute": attribute,
            "trained_on": None,
            "labels": {klass: list(group) for klass, group in labels.items()},
        }

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The model's logits (count, labels)."""
        return self.vision.each(images, lambda prepared: self.vision.model(prepared).logits)

    def classify(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Probabilities (count, classes) of the attribute."""
        logits = torch.from_numpy(features).double()
        groups = [logits[:, columns].logsumexp(1) for columns in self.columns]
        (attribute,) = self.classes
        return {attribute: torch.stack(groups, dim=1).softmax(1).numpy()}
