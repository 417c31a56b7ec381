"""Classifiers of pictures behind one protocol, whatever network is inside.

``AttributeClassifier`` (model/vision/attribute_classifier.py) and ``BackboneClassifier`` are files
made by ``invdiff data classifier``; ``ZeroShotClassifier`` and ``PretrainedClassifier`` are models
of others. Which one a setting means is decided in engine/classifiers/choose.py.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


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
