"""The settings of the discovery of groups."""

from collections.abc import Sequence
from math import isclose
from typing import Annotated, Literal

from pydantic import Field

from invdiff.engine.settings.common import Levels, Section, Whole, rule

MOST_GROUPS = 8
"""Groups of a prompt that there may be: of more, each has too few images to be balanced."""


def _shares(target: Sequence[float]) -> bool:
    least = 0.15 if len(target) == 2 else 0.02
    inside = all(least <= share <= 1 - least for share in target)
    return not target or (len(target) > 1 and inside and isclose(sum(target), 1, abs_tol=1e-6))


Target = Annotated[
    list[float],
    rule(
        _shares,
        "be empty or shares that add up to 1: two of at least 0.15, or more of at least 0.02",
    ),
    rule(lambda shares: len(shares) <= MOST_GROUPS, f"have at most {MOST_GROUPS} shares"),
]


class DiscoverSection(Section):
    """The max step: which group of each prompt the model over-represents, and which not."""

    estimator: Literal["auto", "labels"] = Field(
        "auto",
        description="How groups are found; labels takes those of data.label_column, to compare.",
    )
    images_per_prompt: Whole = Field(600, description="Images of each prompt that are scored.")
    levels: Levels = Field(
        [0.98, 0.94, 0.88, 0.75, 0.5], description="Noise levels at which images are scored."
    )
    draws: int = Field(
        2, ge=2, description="Noise draws for each level, shared by all images; at least 2."
    )
    min_share: float = Field(
        0.02, ge=0, lt=0.5, description="Smallest share of a prompt's images that is a group."
    )
    target: Target = Field(
        [],
        description="Shares of the groups that are wanted under every prompt, from the most "
        "over-represented group on; empty is even.",
    )
    false_positive_rate: float = Field(
        0.01, gt=0, lt=1, description="Chance of finding groups where there are none."
    )
    batch_size: Whole = Field(64, description="Images in one pass through the model.")

    @property
    def wanted_share(self) -> float:
        """The share that is wanted of the second of two groups."""
        return self.target[1] if self.target else 0.5
