"""What was measured on the images of one model at one guidance scale, as the pages tell it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from invdiff.app.report.quantities import Quantity

ARMS = ("base", "guided")


@dataclass(frozen=True)
class Arm:
    """The figures of one model, ``base`` or ``guided``, at one scale."""

    name: str
    strength: float | None
    shares: Mapping[str, Mapping[str, Quantity]]  # prompt -> class
    bias: Quantity
    normalised: Quantity
    bias_corrected: Quantity
    classifier_corrected: Quantity
    fidelity: Quantity
    explicit: Mapping[str, Any]  # of prompts that name a class: a figure, and one for each prompt
    frechet: Mapping[str, Mapping[str, Any]]  # reference -> value, images, reference_images
    manifolds: Mapping[str, Mapping[str, Any]]  # recall, coverage, precision -> value, reference

    @classmethod
    def of(cls, name: str, entry: Mapping[str, Any]) -> "Arm":
        """From what ``metrics.json`` has of them; what was not measured is not defined."""
        bias = entry.get("bias") or {}
        ends = {"value": "", "low": "_low", "high": "_high"}
        corrected = {end: bias.get(f"error_corrected{suffix}") for end, suffix in ends.items()}
        return cls(
            name=name,
            strength=entry.get("strength"),
            shares={prompt: _shares(one) for prompt, one in (entry.get("shares") or {}).items()},
            bias=Quantity.of({"images": entry["images"], **bias}),
            normalised=Quantity.of(bias.get("normalised")),
            bias_corrected=Quantity.of(bias.get("corrected")),
            classifier_corrected=Quantity.of(corrected),
            fidelity=Quantity.of(entry.get("fidelity")),
            explicit=entry.get("explicit") or {},
            frechet=entry.get("frechet") or {},
            manifolds={key: entry.get(key) or {} for key in ("recall", "coverage", "precision")},
        )

    @property
    def balanced_distance(self) -> Quantity:
        """The Fréchet distance to the balanced reference."""
        return Quantity.of(self.frechet.get("balanced"))

    @property
    def has_quality(self) -> bool:
        """Whether any figure of quality was measured."""
        return bool(self.fidelity.value is not None or self.frechet or any(self.manifolds.values()))


def _shares(classes: Mapping[str, Mapping[str, Any]]) -> dict[str, Quantity]:
    images = sum(one.get("count") or 0 for one in classes.values())
    return {name: Quantity.of({**one, "images": images}, "share") for name, one in classes.items()}
