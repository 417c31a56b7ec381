"""The settings of the discovery of groups."""

from math import isclose
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from invdiff.engine.settings.common import Levels, Section, Whole, rule

SEVERAL = ("labels", "cluster")  # estimators that may give more than two groups

Target = Annotated[
    list[float],
    rule(
        lambda shares: not shares or (len(shares) > 2 and isclose(sum(shares), 1, abs_tol=1e-6)),
        "be empty or three shares or more that add up to 1 (of two groups discover.against_share "
        "says all)",
    ),
    rule(lambda shares: all(0.02 <= one <= 0.98 for one in shares), "have shares of 0.02 or more"),
]


class DiscoverSection(Section):
    """The max step: which images go with the model and which against it."""

    estimator: Literal[
        "auto",
        "contrast",
        "semantic",
        "profile",
        "amortised",
        "cluster",
        "top_loss",
        "labels",
        "random",
        "reference",
        "none",
    ] = Field("auto", description="How groups are found; all but auto are for comparison.")
    top_share: float = Field(
        0.2, gt=0, lt=0.5, description="Share of a prompt's images that top_loss takes."
    )
    images_per_prompt: Whole = Field(600, description="Images of each prompt that are scored.")
    contrast_images: Whole = Field(
        300, description="Images of each prompt, of those, that are compared under all prompts."
    )
    levels: Levels = Field(
        [0.98, 0.94, 0.88, 0.75, 0.5], description="Noise levels at which images are scored."
    )
    feature_levels: Levels = Field(
        [0.05, 0.1, 0.15, 0.3], description="Noise levels at which the model's features are read."
    )
    draws: int = Field(
        2, ge=2, description="Noise draws for each level, shared by all images; at least 2."
    )
    adaptive: bool = Field(
        False,
        description="Begin with these draws and add as many again, round by round, at levels whose "
        "score is unreliable, until it is reliable or the groups stay the same.",
    )
    most_draws: int = Field(
        8,
        ge=2,
        validate_default=True,
        description="Noise draws that a level has at most after adaptive rounds.",
    )
    enough_reliability: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="Split-half reliability from which a level gets no more adaptive draws.",
    )
    enough_agreement: float = Field(
        0.99,
        gt=0.5,
        le=1,
        description="Share of images in the same group after two adaptive rounds in a row that "
        "ends them.",
    )
    min_share: float = Field(
        0.02, ge=0, lt=0.5, description="Smallest share of a prompt's images that is a group."
    )
    against_share: float = Field(
        0.5,
        ge=0.15,
        le=0.85,
        description="Share of the group against the model that is wanted under every prompt, in "
        "training and calibration; 0.5 is even.",
    )
    target: Target = Field(
        [],
        description="Shares of more than two groups that are wanted under every prompt, from the "
        "group with the model to the one most against it; empty is even.",
    )
    certainty: float = Field(
        4.0,
        ge=1,
        description="Power to which memberships count in the weights of training: the higher, the "
        "less an image between two groups counts in either; 1 takes them as they are.",
    )
    most_groups: int = Field(
        8, ge=2, description="Groups of a prompt that there may be; more labels are refused."
    )
    false_alarm: float = Field(
        0.01, gt=0, lt=1, description="Chance of finding groups where there are none."
    )
    batch: Whole = Field(64, description="Images in one pass through the model.")

    @field_validator("most_draws")
    @classmethod
    def _more_than_the_first(cls, most: int, before: ValidationInfo) -> int:
        draws = before.data.get("draws", 0)
        if before.data.get("adaptive") and most <= draws:
            raise ValueError(f"be more than discover.draws ({draws}), which adaptive rounds add to")
        return most
