"""The settings of the training."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from invdiff.engine.settings.common import Section, Whole, distinct, rule

Trackers = Annotated[
    list[Literal["tensorboard", "wandb"]],
    rule(distinct, "name each tracker only once"),
]


def _odd_one_out(batch: int) -> int:
    if batch % 2:
        raise ValueError(f"be even, one half for each group ({batch + 1} would do)")
    return batch


class TrainSection(Section):
    """The min step: the guidance, a LoRA on the frozen denoiser."""

    steps: int = Field(
        800, ge=0, description="Training steps, each of one batch; 0 trains nothing."
    )
    batch_size: Annotated[int, Field(ge=2), AfterValidator(_odd_one_out)] = Field(
        32, description="Images in one step; even, half for each group."
    )
    random_flip: bool = Field(
        False,
        description="See each picture mirrored left to right in half of its steps; not where left "
        "and right mean something, as in text.",
    )
    rank: Whole = Field(8, description="Rank of the LoRA.")
    learning_rate: float = Field(
        1e-3, gt=0, le=1, description="Peak learning rate; 1 for prodigy, which finds its own."
    )
    optimizer: Literal["adamw", "adamw8bit", "prodigy", "adafactor"] = Field(
        "adamw", description="What takes the steps; all but adamw need the extra optimisers."
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of the average of the adapter's weights that is kept instead of the "
        "last weights; 0 keeps the last.",
    )
    prompt_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of images trained under the null prompt."
    )
    variance_weight: float = Field(
        0.1, ge=0, description="Lambda, the weight of the variance between group risks."
    )
    share_feedback: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.2, 0.4, 0.6],
        description="When pictures of the half-trained model correct the shares that are "
        "aimed at, as shares of the steps; empty for never.",
    )
    share_feedback_scales: list[Annotated[float, Field(ge=1)]] = Field(
        [],
        description="Guidance scales of those pictures; empty for the calibration's scale alone.",
    )
    processes: int = Field(
        1,
        ge=0,
        le=256,
        description="Processes that share each batch; 0 is 2 on a CPU of several cores, else 1. "
        "torchrun sets its own number.",
    )
    gradient_accumulation_steps: Whole = Field(
        1, description="Parts in which a process takes its share of a batch: less memory, slower."
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass: less memory, slower."
    )
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    checkpointing_steps: Whole = Field(200, description="Steps between checkpoints.")
    checkpoints_total_limit: int = Field(
        2, ge=2, description="Checkpoints that are kept; 2 survive damage to the newest."
    )
    validation_steps: int = Field(
        0,
        ge=0,
        description="Steps between losses of a held part at fixed noise and levels; 0 is never.",
    )
    preview_steps: int = Field(
        0, ge=0, description="Steps between grids of base and guided pictures; 0 is never."
    )
    report_to: Trackers = Field(
        [], description="Where the log goes besides training-log.jsonl; each needs its extra."
    )
