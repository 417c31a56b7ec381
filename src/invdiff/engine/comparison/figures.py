"""One measured number with all it depends on, and how the pictures of both sets belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from invdiff.core.measurement.influence import InfluenceExpansion
from invdiff.core.uncertainty.intervals import Interval, bootstrap_interval
from invdiff.data.gallery import Gallery

CONFIDENCE = 0.95
NO_INTERVAL = (np.nan, np.nan)
PAIRED = "paired by name"


class Drawing(NamedTuple):
    """How intervals are drawn, in the order in which their functions take it."""

    resamples: int
    seed: int
    confidence: float = CONFIDENCE


@dataclass(frozen=True)
class Figure:
    """A number. ``of`` is a set ("a", "b") or "b - a", ``against`` the set it is compared with.

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
    near = bootstrap_interval(parts, strata, *drawing)
    far = bootstrap_interval(parts, prompts, *drawing, over="prompts")
    if not parts.parts.any():  # a mean over the reference: no prompt has a part in it
        far = Interval(parts.value, *NO_INTERVAL)
    low, high, *ends = np.maximum([near.low, near.high, far.low, far.high], least).tolist()
    return Figure(value=parts.value, low=low, high=high, prompts=(ends[0], ends[1]), **about)


@dataclass(frozen=True)
class Sides:
    """Prompts of both sets and, where pictures pair by name, the rows of the second in order.

    Pictures of one seed have one name in most folders of samples. Where names are equal and seeds
    are not, taking them as pairs does no harm: nothing cancels then, and the interval is the
    unpaired one.
    """

    prompts: Mapping[str, tuple[str, ...]]
    order: NDArray[np.int64] | None

    @property
    def paired(self) -> bool:
        """Whether every picture has its partner."""
        return self.order is not None

    def difference(
        self, before: InfluenceExpansion, after: InfluenceExpansion
    ) -> tuple[InfluenceExpansion, list[str], list[str]]:
        """``after`` less ``before`` with its strata and prompts.

        What both share (the seed of a pair, the reference) cancels.
        """
        first, second = self.prompts["a"], self.prompts["b"]
        if self.order is not None:
            parts, prompts = after.parts[self.order] - before.parts, list(first)
            strata = prompts
        else:
            parts, prompts = np.concatenate([-before.parts, after.parts]), [*first, *second]
            strata = [f"{of} {prompt}" for of, own in self.prompts.items() for prompt in own]
        reference = after.reference - before.reference
        rest = float(np.hypot(before.rest, after.rest))
        value = after.value - before.value
        return InfluenceExpansion(value, parts, reference, rest), strata, prompts

    def partners(self, labels: Sequence[str]) -> list[str]:
        """Labels of the second set in the order of the first; only where they pair."""
        assert self.order is not None, "only where they pair"
        return [labels[row] for row in self.order]


def sides(first: Gallery, second: Gallery) -> Sides:
    """Pairs are pictures of one name (its suffix aside) and prompt, if that covers both sets."""
    keys = [
        [(str(PurePosixPath(n).with_suffix("")), p) for n, p in zip(g.names, g.prompt, strict=True)]
        for g in (first, second)
    ]
    order = None
    if len(set(keys[0])) == len(keys[0]) and sorted(keys[0]) == sorted(keys[1]):
        place = {key: row for row, key in enumerate(keys[1])}
        order = np.array([place[key] for key in keys[0]], dtype=np.int64)
    return Sides({"a": first.prompt, "b": second.prompt}, order)
