"""What the inferred groups of a prompt are called, two or more of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from invdiff.app.report.words import Estimate


def side(groups: Sequence[Mapping[str, Any]], group: int) -> str:
    """The name of a group of a prompt with these ``groups``."""
    if len(groups) <= 2:
        return "against the model" if group else "with the model"
    label = groups[group].get("label")
    return f"group {group}" + (f" ({label})" if label else "")


def against(groups: Sequence[Mapping[str, Any]]) -> Estimate:
    """The share of the images that are in another group than the one with the model."""
    if len(groups) <= 2:
        return Estimate.of(groups[1], "share")
    first = Estimate.of(groups[0], "share")
    value, low, high = (
        None if one is None else 1 - one for one in (first.value, first.high, first.low)
    )
    return Estimate(value, low, high)
