"""What a picture shows, estimated: attributes and a feature vector from one small network.

The classifier of a built-in set is a file of weights whose header says what it was trained on
and how often it is wrong on pictures that it never saw. Every attribute in a report is
*classifier-estimated*: the error measured here travels with it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from invdiff.errors import ModelError, refused

KIND = "invdiff attribute classifier"
SIZE = 32
FEATURES = 64


def to_input(images: NDArray[np.uint8]) -> Tensor:
    """Pictures (count, height, width, 3) in 0..255 as (count, 3, height, width) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(8, outputs), nn.SiLU())


class AttributeClassifier(nn.Module):
    """A convolutional trunk, 64 features and one linear head per attribute (165 k parameters).

    ``classes`` names the classes of every attribute, in the order of the columns of
    :meth:`classify`. The features are normalised to mean 0 and variance 1 over the 64 numbers
    of one picture, so that a distance in them has a fixed scale: no two pictures are further
    apart than 2 sqrt(64) = 16. ``facts`` is what the file's header says.
    """

    side = SIZE
    extractor = f"{FEATURES} features of an attribute classifier"

    def __init__(self, classes: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.classes = {name: tuple(values) for name, values in classes.items()}
        self.facts: dict[str, Any] = {}
        self.trunk = nn.Sequential(
            _block(3, 24),
            _block(24, 48, stride=2),
            _block(48, 48),
            _block(48, 88, stride=2),
            _block(88, 88),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * 88, FEATURES),
            nn.LayerNorm(FEATURES, elementwise_affine=False),
        )
        heads = {name: nn.Linear(FEATURES, len(values)) for name, values in self.classes.items()}
        self.heads = nn.ModuleDict(heads)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits (count, classes) of every attribute for pictures (count, 3, 32, 32)."""
        features = self.trunk(pictures)
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def features(self, images: NDArray[np.uint8], batch: int = 256) -> NDArray[np.float32]:
        """Features (count, 64) of ``images`` (count, 32, 32, 3) in 0..255.

        They don't depend on ``batch``, but for the last digits.
        """
        if images.dtype != np.uint8 or images.shape[1:] != (SIZE, SIZE, 3):
            raise ModelError(
                f"the classifier reads uint8 pictures of {SIZE} x {SIZE} with 3 channels, these "
                f"are {images.dtype} {tuple(images.shape)}: resize them, or set "
                'evaluate.classifier = "none"'
            )
        starts = range(0, len(images), batch)
        parts = [self.trunk(to_input(images[start : start + batch])) for start in starts]
        return torch.cat(parts or [torch.empty(0, FEATURES)]).numpy()

    @torch.no_grad()
    def classify(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Probabilities (count, classes) of every attribute from :meth:`features`."""
        inputs = torch.from_numpy(features)
        heads = self.heads.items()
        return {name: head(inputs).double().softmax(1).numpy() for name, head in heads}

    def estimate(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.str_]]:
        """The most probable class of every attribute for each row of :meth:`features`."""
        return {
            name: np.asarray(self.classes[name])[values.argmax(1)]
            for name, values in self.classify(features).items()
        }

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write the weights as float16, with classes and ``facts`` as JSON in the header."""
        header = {"kind": KIND, "classes": json.dumps(self.classes), "facts": json.dumps(facts)}
        tensors = {name: value.half().contiguous() for name, value in self.state_dict().items()}
        save_file(tensors, path, header)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of :meth:`save`; raises :class:`ModelError` for any other file."""
        way_out = "give a .safetensors file written by AttributeClassifier.save"
        with refused(f"{path} cannot be read as a classifier", way_out):
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                names = file.keys()
                tensors = {name: file.get_tensor(name).float() for name in names}
            if (kind := header.get("kind")) != KIND:
                raise ModelError(
                    f"{path} holds no attribute classifier (its header says kind = {kind!r}, "
                    f"wanted {KIND!r}): {way_out}"
                )
            model = cls(json.loads(header["classes"]))
            model.load_state_dict(tensors)
            model.facts = json.loads(header["facts"])
        return model.requires_grad_(False).eval()
