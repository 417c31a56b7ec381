"""Which classifier ``evaluate.classifier`` means: the only place that knows all of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from invdiff.data.sets import builtin
from invdiff.engine.settings.common import EMBEDDED_SETS, texts_of
from invdiff.engine.settings.schema import Config
from invdiff.errors import ModelError
from invdiff.model.vision.attribute_classifier import FEATURES, AttributeClassifier
from invdiff.model.vision.classifiers import (
    BACKBONE_KIND,
    BackboneClassifier,
    Classifier,
    PretrainedClassifier,
    ZeroShotClassifier,
)


@dataclass(frozen=True)
class Chosen:
    """A classifier with its name in the report and the SHA-256 of its file or weights.

    ``attribute`` is the one whose parity is measured.
    """

    name: str
    classifier: Classifier
    sha256: str
    attribute: str


_OF_OTHERS = {
    "clip": ZeroShotClassifier,
    "siglip": ZeroShotClassifier,
    "model": PretrainedClassifier,
}


def classifier_named(name: str, attribute: str, classes: Sequence[str], wanted: str = "") -> Chosen:
    """The classifier ``clip:MODEL``, ``siglip:MODEL`` or ``model:MODEL``, a built-in one or a file.

    One of others estimates ``attribute`` with ``classes``, lines ``"class = text"``; a file that
    was trained here knows its own, of which ``wanted`` is one ("": its first).

    Raises:
        ModelError: a file or model that is missing, damaged or of another kind.
    """
    kind, colon, which = name.partition(":")
    if colon and kind in _OF_OTHERS:
        found = _OF_OTHERS[kind](which, attribute, texts_of(classes))
        return Chosen(found.vision.name, found, found.vision.sha256, attribute)
    if name in EMBEDDED_SETS:
        return from_file(embedded_path(name), name, wanted)
    path = Path(name).expanduser()
    return from_file(path, path.stem, wanted)


def choose(config: Config) -> Chosen | None:
    """The classifier of a run; None for none, and for a column of labels, which needs none.

    Raises:
        ModelError: a file or model that is missing, damaged or of another kind.
    """
    name, asked = effective(config), config.evaluate
    if name == "none" or name.startswith("column:"):
        return None
    known = builtin.SETS.get(config.data.path)
    own = config.data.label_column or (known.attribute if known else "attribute")
    return classifier_named(name, asked.attribute or own, asked.classes, asked.attribute)


def effective(config: Config) -> str:
    """The setting, with "auto" replaced by what it stands for."""
    name: str = config.evaluate.classifier
    if name != "auto":
        return name
    return config.data.path if config.data.path in EMBEDDED_SETS else "none"


def embedded_path(name: str) -> Path:
    """The file of a built-in set's own classifier."""
    return builtin.require_built(name) / "classifier.safetensors"


def from_file(path: Path, name: str, attribute: str = "") -> Chosen:
    """A classifier that was trained here; no ``attribute`` takes the file's first.

    Raises:
        ModelError: another file, or one that does not know the attribute.
    """
    header: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    found: BackboneClassifier | AttributeClassifier
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("kind") == BACKBONE_KIND:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        pass  # AttributeClassifier.load says what is wrong with it
    if tensors:
        found = BackboneClassifier.build(header, tensors, path)
    else:
        found = AttributeClassifier.load(path)
        found.extractor = f"{FEATURES} features of the {name} attribute classifier"
    attribute = attribute or str(found.facts["attribute"])
    if attribute not in found.classes:
        raise ModelError(
            f"{path} does not estimate {attribute!r}: set evaluate.attribute to one of "
            f"{', '.join(found.classes)}"
        )
    return Chosen(name, found, hashlib.sha256(path.read_bytes()).hexdigest(), attribute)
