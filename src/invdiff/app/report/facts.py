"""What a run has shown, as the pages tell it: groups, measurements of each model, calibration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from invdiff.app.report.quantities import Quantity

ARMS = ("base", "guided")


@dataclass(frozen=True)
class InferredGroup:
    """One inferred group of a prompt: what it is called, and its share of the images."""

    name: str
    share: Quantity
    label: str = ""


@dataclass(frozen=True)
class PromptFacts:
    """What discovery says about one prompt; ``under`` is the share of all groups but the first."""

    found: bool
    left_alone: bool  # a split that is there, and about even
    note: str
    images: int
    scored: int
    explained: float | None
    p_value: float | None
    groups: tuple[InferredGroup, ...]
    under: Quantity
    profile: Mapping[str, Any] | None


@dataclass(frozen=True)
class ExplicitPrompts:
    """Prompts that name a class: how often the images show it, for each prompt and in all."""

    classes: Mapping[str, str]
    prompts: Mapping[str, Quantity]
    all: Quantity


@dataclass(frozen=True)
class Arm:
    """What was measured on the images of one model, ``base`` or ``guided``, at one scale."""

    name: str
    strength: float | None
    images: int
    shares: Mapping[str, Mapping[str, Quantity]]  # prompt -> class
    bias: Quantity
    normalised: Quantity
    bias_corrected: Quantity
    classifier_corrected: Quantity
    fidelity: Quantity
    explicit: ExplicitPrompts | None
    frechet: Mapping[str, Mapping[str, Any]]  # reference -> value, images, reference_images
    manifolds: Mapping[str, Mapping[str, Any]]  # recall, coverage, precision -> value, reference

    @property
    def balanced_distance(self) -> Quantity:
        """The Fréchet distance to the balanced reference."""
        return Quantity.of(self.frechet.get("balanced"))

    @property
    def has_quality(self) -> bool:
        """Whether any figure of quality was measured."""
        return bool(self.fidelity.value is not None or self.frechet or any(self.manifolds.values()))


@dataclass(frozen=True)
class GapPoint:
    """The gap between the inferred groups of generated images at one adapter strength."""

    strength: float
    gap: Quantity
    shares: Mapping[str, Any]  # prompt -> share of the under-represented group, or of each


@dataclass(frozen=True)
class CalibrationFacts:
    """How the adapter strength was chosen."""

    guidance_scale: float
    strength: float
    tolerance: float
    images_per_prompt: int | None
    curve: tuple[GapPoint, ...]

    @property
    def before(self) -> GapPoint:
        """The point of the base model."""
        return min(self.curve, key=lambda point: abs(point.strength))

    @property
    def chosen(self) -> GapPoint:
        """The point of the chosen strength."""
        return min(self.curve, key=lambda point: abs(point.strength - self.strength))
