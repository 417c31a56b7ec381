"""What only comparisons and tests change: no setting of a user, and listed nowhere."""

from typing import Annotated, Literal

from pydantic import Field

from invdiff.engine.settings.common import Levels, Section, once

SEVERAL = ("labels",)
"""Estimators that may give more than two groups."""
INFERRING = ("auto", "top_loss")
"""Estimators that look for groups: where they find none, there is nothing to train."""
POOLED = ("pooled", "reference")
"""Objectives that balance over all prompts at once, as the authors' code does."""

Arms = Annotated[list[Literal["base", "guided"]], Field(min_length=1), once("arm")]


class StudySection(Section):
    """The parts of the method that a comparison exchanges, one at a time."""

    estimator: Literal[
        "",
        "auto",
        "top_loss",
        "labels",
        "random",
        "reference",
        "none",
    ] = ""
    """Estimator of the groups in place of discover.estimator."""
    objective: Literal["regret", "plain", "groupdro", "pooled", "reference"] = "regret"
    """Which risks of the groups training looks at, and how."""
    target: Literal["stable", "sample"] = "stable"
    """What the denoiser is trained towards."""
    certainty: float = Field(4.0, ge=1)
    """Power to which memberships count in the weights of training."""
    level_focus: float = Field(2.0, ge=1)
    """1 draws noise levels evenly, more draws high ones more often."""
    min_share: float = Field(0.02, ge=0, lt=0.5)
    """Smallest share of a prompt's images that is a group."""
    feature_levels: Levels = Field([0.05, 0.1, 0.15, 0.3])
    """Noise levels at which the model's features are read."""
    arms: Arms = Field(["base", "guided"])
    """Which pictures are drawn: the base model's, the guided model's."""

    @property
    def pooled(self) -> bool:
        """Whether all prompts are balanced as one."""
        return self.objective in POOLED
