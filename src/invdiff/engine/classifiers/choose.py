"""Which classifier ``evaluate.classifier`` means: the only place that knows all of them."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from invdiff.data.sets import builtin
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.settings.config import Config
from invdiff.engine.settings.evaluation import texts_of
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


Texts = Mapping[str, list[str]]


def _zero_shot(name: str, attribute: str, texts: Texts) -> Chosen:
    found = ZeroShotClassifier(name, attribute, texts)
    return Chosen(found.vision.name, found, found.vision.sha256, attribute)


def _pretrained(name: str, attribute: str, labels: Texts) -> Chosen:
    found = PretrainedClassifier(name, attribute, labels)
    return Chosen(found.vision.name, found, found.vision.sha256, attribute)


_OF_OTHERS: dict[str, Callable[[str, str, Texts], Chosen]] = {
    "clip": _zero_shot,
    "siglip": _zero_shot,
    "model": _pretrained,
}


def of_others(name: str, attribute: str, classes: Sequence[str]) -> Chosen | None:
    """The classifier ``clip:MODEL``, ``siglip:MODEL`` or ``model:MODEL``; None for other names.

    ``classes`` are lines ``"class = text"``.
    """
    kind, colon, which = name.partition(":")
    if not colon or kind not in _OF_OTHERS:
        return None
    return _OF_OTHERS[kind](which, attribute, texts_of(classes))


def choose(config: Config) -> Chosen | None:
    """The classifier of a run; None for none, and for a column of labels, which needs none.

    Raises:
        ModelError: a file or model that is missing, damaged or of another kind.
    """
    name = effective(config)
    kind, colon, _ = name.partition(":")
    if name == "none" or (colon and kind == "column"):
        return None
    if colon and kind in _OF_OTHERS:
        return of_others(name, attribute_of(config), config.evaluate.classes)
    if name in EMBEDDED_SETS:
        return from_file(embedded_path(name), name, config.evaluate.attribute)
    path = Path(name).expanduser()
    return from_file(path, path.stem, config.evaluate.attribute)


def effective(config: Config) -> str:
    """The setting, with "auto" replaced by what it stands for."""
    name: str = config.evaluate.classifier
    if name != "auto":
        return name
    return config.data.path if config.data.path in EMBEDDED_SETS else "none"


def attribute_of(config: Config) -> str:
    """What to call the attribute of a classifier that does not name it itself."""
    known = builtin.SETS.get(config.data.path)
    own = known.attribute if known else ""
    named: str = config.evaluate.attribute or config.data.label_column or own
    return named or "attribute"


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
