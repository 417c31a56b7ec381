"""One measured number with all it depends on, as ``metrics.json`` and the tables have it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from invdiff.core.measurement.influence import InfluenceExpansion
from invdiff.core.uncertainty import bootstrap
from invdiff.core.uncertainty.intervals import Interval

CONFIDENCE = 0.95
NO_INTERVAL = (np.nan, np.nan)


@dataclass(frozen=True)
class Drawing:
    """How intervals are drawn."""

    resamples: int
    seed: int
    confidence: float = CONFIDENCE


@dataclass(frozen=True)
class Figure:
    """A number. ``of`` is a set ("a", "b") or "a - b", ``against`` the set it is compared with.

    ``prompts`` is the interval over prompts, ``low`` and ``high`` those over images. ``where``
    names the prompt, attribute and class it is about.
    """

    name: str
    of: str
    value: float
    images: int
    against: str = ""
    reference_images: int = 0
    low: float = np.nan
    high: float = np.nan
    prompts: tuple[float, float] = NO_INTERVAL
    extractor: str = ""
    note: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def record(self, facts: Mapping[str, Any], hashes: Mapping[str, str]) -> dict[str, Any]:
        """The figure with protocol, extractor, hash, counts, seeds and versions beside it."""
        found: dict[str, Any] = {"figure": self.name, "of": self.of}
        found |= {"against": self.against} if self.against else {}
        found |= dict(self.where)
        found |= {"value": self.value, "low": self.low, "high": self.high}
        found |= {"low_over_prompts": self.prompts[0], "high_over_prompts": self.prompts[1]}
        found |= {"images": self.images} | dict(self.more)
        found |= {"reference_images": self.reference_images} if self.reference_images else {}
        found |= {"note": self.note} if self.note else {}
        if self.extractor:
            found |= {"extractor": self.extractor, "extractor_sha256": hashes[self.extractor]}
        return found | dict(facts)


def with_intervals(
    parts: InfluenceExpansion,
    strata: Sequence[str],
    prompts: Sequence[str],
    drawing: Drawing,
    least: float = -np.inf,
    **about: Any,
) -> Figure:
    """The figure of ``parts`` with both intervals: images within ``strata``, and ``prompts``.

    Nothing is below ``least``.
    """
    settings = drawing.resamples, drawing.seed, drawing.confidence
    near = bootstrap.bootstrap_interval(parts, strata, *settings)
    far = bootstrap.bootstrap_interval(parts, prompts, *settings, over="prompts")
    if not parts.parts.any():  # a mean over the reference: no prompt has a part in it
        far = Interval(parts.value, *NO_INTERVAL)
    low, high, far_low, far_high = (
        float(np.maximum(end, least)) for end in (near.low, near.high, far.low, far.high)
    )
    return Figure(value=parts.value, low=low, high=high, prompts=(far_low, far_high), **about)


def of_interval(found: Interval, **about: Any) -> Figure:
    """The figure of an interval that was made elsewhere."""
    return Figure(value=found.value, low=found.low, high=found.high, **about)
