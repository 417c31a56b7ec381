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
    batch: Annotated[int, Field(ge=2), AfterValidator(_odd_one_out)] = Field(
        32, description="Images in one step; even, half for each group."
    )
    flip: bool = Field(
        False,
        description="See each picture mirrored left to right in half of its steps; not where left "
        "and right mean something, as in text.",
    )
    rank: Whole = Field(8, description="Rank of the LoRA.")
    learning_rate: float = Field(
        1e-3, gt=0, le=1, description="Peak learning rate; 1 for prodigy, which finds its own."
    )
    optimiser: Literal["adamw", "adamw8bit", "prodigy", "adafactor"] = Field(
        "adamw", description="What takes the steps; all but adamw need the extra optimisers."
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of the average of the adapter's weights that is kept instead of the "
        "last weights; 0 keeps the last.",
    )
    prompt_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of images trained under the null prompt."
    )
    level_focus: float = Field(
        2.0, ge=1, description="1 draws noise levels evenly, more draws high ones more often."
    )
    level_density: Literal["focus", "logit_normal"] = Field(
        "focus", description="How noise levels are drawn: by level_focus, or logit-normal."
    )
    level_sampling: Literal["stratified", "independent", "shared"] = Field(
        "stratified",
        description="How the levels of a batch hang together: one from each slice of their "
        "distribution, each drawn alone, or one for all.",
    )
    logit_mean: float = Field(
        0.0, description="Mean log-odds of a logit-normal noise level; above 0 is more noise."
    )
    logit_std: float = Field(
        1.0, gt=0, description="Standard deviation of the log-odds of logit-normal noise levels."
    )
    variance_weight: float = Field(
        0.1, ge=0, description="Lambda, the weight of the variance between group risks."
    )
    variance_warmup: int = Field(
        100, ge=0, description="Steps over which the variance weight rises from 0."
    )
    objective: Literal["regret", "plain", "mean", "groupdro", "reference"] = Field(
        "regret",
        description="Whose variance counts: regret over the base, plain risks, none (mean, plain "
        "reweighting); groupdro trains on the worst mixture; reference is the authors' code.",
    )
    dro_step: float = Field(
        0.1, gt=0, description="How fast groupdro moves to the group with the higher risk."
    )
    target: Literal["stable", "sample"] = Field(
        "stable", description="What the denoiser is trained towards."
    )
    keep_others: bool = Field(
        True,
        description="Train prompts in which nothing was found towards the base model's own "
        "prediction, so that they stay as they are; false trains them on their pictures.",
    )
    loss_space: Literal["v", "epsilon", "x0", "min_snr"] = Field(
        "v",
        description="Space of the loss, whatever the model predicts; min_snr is epsilon with the "
        "low noise levels held down.",
    )
    min_snr_gamma: float = Field(
        5.0, gt=0, description="Largest signal-to-noise ratio that counts in the space min_snr."
    )
    feedback: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.2, 0.4, 0.6],
        description="When to look back, as shares of the steps: pictures of the half-trained "
        "model correct the shares that are aimed at; empty for never.",
    )
    feedback_scales: list[Annotated[float, Field(ge=1)]] = Field(
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
    accumulate: Whole = Field(
        1, description="Parts in which a process takes its share of a batch: less memory, slower."
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass: less memory, slower."
    )
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    max_bad_steps: Whole = Field(
        20, description="Steps in a row without a finite gradient that end the training."
    )
    save_every: Whole = Field(200, description="Steps between checkpoints.")
    keep: int = Field(
        2, ge=2, description="Checkpoints that are kept; 2 survive damage to the newest."
    )
    validate_every: int = Field(
        0,
        ge=0,
        description="Steps between losses of a held part at fixed noise and levels; 0 is never.",
    )
    held_share: float = Field(
        0.05, gt=0, lt=0.5, description="Share of the images held out if there is validation."
    )
    preview_every: int = Field(
        0, ge=0, description="Steps between grids of base and guided pictures; 0 is never."
    )
    trackers: Trackers = Field(
        [], description="Where the log goes besides training-log.jsonl; each needs its extra."
    )
