"""The settings of the method: the max step, which finds the groups, and the min step."""

from collections.abc import Sequence
from math import isclose
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from invdiff.engine.settings.common import Levels, Scale, Section, Whole, once, rule

MOST_GROUPS = 8
"""Groups of a prompt that there may be: of more, each has too few images to be balanced."""
MOST_ATTRIBUTES = 3
"""Attributes that may be balanced together: their crossed values are 8 groups then."""
HIGH_NOISE = 0.85
"""The groups are inferred from images scored at noise levels from here on."""


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

    estimator: Literal["auto", "labels"] = "auto"
    """How groups are found; labels takes those of data.label_column, to compare."""
    images_per_prompt: Whole = 600
    """Images of each prompt that are scored."""
    levels: Levels = Field([0.98, 0.94, 0.88, 0.75, 0.5])
    """Noise levels at which images are scored."""
    draws: int = Field(2, ge=2)
    """Noise draws for each level, shared by all images; at least 2."""
    attributes: int = Field(1, ge=1, le=MOST_ATTRIBUTES)
    """Clear attributes that are balanced together, the most tied first: of more than one their
    crossed values are the groups."""
    target: Target = Field([])
    """Shares of the groups that are wanted under every prompt, from the most over-represented group
    on; empty is even."""
    false_positive_rate: float = Field(0.01, gt=0, lt=1)
    """Chance of finding groups where there are none."""
    batch_size: Whole = 64
    """Images in one pass through the model."""

    @property
    def wanted_share(self) -> float:
        """The share that is wanted of the second of two groups."""
        return self.target[1] if self.target else 0.5


def _odd_one_out(batch: int) -> int:
    if batch % 2:
        raise ValueError(f"be even, one half for each group ({batch + 1} would do)")
    return batch


class TrainSection(Section):
    """The min step: the guidance, a LoRA on the frozen denoiser."""

    steps: int = Field(800, ge=0)
    """Training steps, each of one batch; 0 trains nothing."""
    batch_size: Annotated[int, Field(ge=2), AfterValidator(_odd_one_out)] = 32
    """Images in one step; even, half for each group."""
    random_flip: bool = False
    """See each picture mirrored left to right in half of its steps; not where left and right mean
    something, as in text."""
    rank: Whole = 8
    """Rank of the LoRA."""
    learning_rate: float = Field(1e-3, gt=0, le=1)
    """Peak learning rate; 1 for prodigy, which finds its own."""
    optimizer: Literal["adamw", "adamw8bit", "prodigy", "adafactor"] = "adamw"
    """What takes the steps; all but adamw need the extra optimisers."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay of the average of the adapter's weights that is kept instead of the last weights; 0
    keeps the last."""
    prompt_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of images trained under the null prompt."""
    variance_weight: float = Field(0.1, ge=0)
    """Lambda, the weight of the variance between group risks."""
    share_feedback: list[Annotated[float, Field(gt=0, lt=1)]] = Field([0.2, 0.4, 0.6])
    """When pictures of the half-trained model correct the shares that are aimed at, as shares of
    the steps; empty for never."""
    share_feedback_scales: list[Scale] = Field([])
    """Guidance scales of those pictures; empty for the calibration's scale alone."""
    processes: int = Field(1, ge=0, le=256)
    """Processes that share each batch; 0 is 2 on a CPU of several cores, else 1. torchrun sets its
    own number."""
    gradient_accumulation_steps: Whole = 1
    """Parts in which a process takes its share of a batch: less memory, slower."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, slower."""
    compile: bool = False
    """Compile the network with torch.compile."""
    checkpointing_steps: Whole = 200
    """Steps between checkpoints."""
    checkpoints_total_limit: int = Field(2, ge=2)
    """Checkpoints that are kept; 2 survive damage to the newest."""
    validation_steps: int = Field(0, ge=0)
    """Steps between losses of a held part at fixed noise and levels; 0 is never."""
    preview_steps: int = Field(0, ge=0)
    """Steps between grids of base and guided pictures; 0 is never."""
    report_to: Annotated[list[Literal["tensorboard", "wandb"]], once("tracker")] = Field([])
    """Where the log goes besides training-log.jsonl; each needs its extra."""


def high_levels(levels: Sequence[float]) -> list[int]:
    """Positions of the levels at high noise: from 0.85 on, or the highest there is."""
    high = [k for k, level in enumerate(levels) if level >= HIGH_NOISE]
    return high or [max(range(len(levels)), key=lambda k: levels[k])]
