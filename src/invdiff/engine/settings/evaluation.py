"""The settings of the figures, and which classifiers there are to name."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from invdiff.engine.settings.common import EMBEDDED_SETS, Section, Strength, rule

ZERO_SHOT = ("clip", "siglip")
CLASSIFIER_KINDS = (*ZERO_SHOT, "model", "column")


def texts_of(lines: Sequence[str]) -> dict[str, list[str]]:
    """``"class = text"`` lines by class, in the order in which the classes first come."""
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, text = line.partition("=")
        found.setdefault(name.strip(), []).append(text.strip())
    return found


def has_text(lines: Sequence[str]) -> bool:
    """Whether every line is ``"class = text"``."""
    return all(name and all(texts) for name, texts in texts_of(lines).items())


def _a_classifier(name: str) -> str:
    kind, colon, which = name.partition(":")
    known = name in ("auto", "none", *EMBEDDED_SETS) or name.endswith(".safetensors")
    if known or (colon and kind in CLASSIFIER_KINDS and which):
        return name
    kinds = ", ".join(f"{kind}:NAME" for kind in CLASSIFIER_KINDS)
    raise ValueError(f'be "auto", "none", a built-in set, a .safetensors file or one of {kinds}')


ClassTexts = Annotated[list[str], rule(has_text, 'be lines like "female = a photo of a woman"')]
ClassifierName = Annotated[str, AfterValidator(_a_classifier)]


class EvaluateSection(Section):
    """The figures."""

    classifier: ClassifierName = "auto"
    """Attribute classifier: a file of `invdiff data classifier`, clip:MODEL, siglip:MODEL,
    model:MODEL, column:NAME (labels in samples/metadata.csv), none; auto takes a built-in set's
    own."""
    attribute: str = ""
    """Name of the attribute that clip, siglip or model estimates."""
    classes: ClassTexts = Field([])
    """Its classes, as in "female = a photo of a woman": texts for clip and siglip, labels of the
    model for model; a class can have several."""
    abstain_below: float = Field(0.0, ge=0, lt=1)
    """A picture whose most probable class is less probable than this is counted as unclear; 0
    never."""
    strength_curve: list[Strength] = Field([])
    """Strengths at which the calibration's pictures are drawn again to set its estimated gap beside
    the classifier's; empty for none."""


def wrong_classes(classifier: str, classes: Sequence[str]) -> str | None:
    """What is wrong with the texts of a classifier's classes."""
    kind = classifier.partition(":")[0]
    if kind in ZERO_SHOT and len(texts_of(classes)) < 2:
        return (
            f"{kind} needs texts of at least 2 classes, as in "
            '["female = a photo of a woman", "male = a photo of a man"]'
        )
    if classes and kind not in (*ZERO_SHOT, "model"):
        return "only clip, siglip and model read them; leave them out"
    return None
