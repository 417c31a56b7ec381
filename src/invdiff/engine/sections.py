"""Every setting of a run: its type, range, default and one sentence.

Noise levels are fractions of the schedule, 0 = clean, 1 = pure noise. The sections are frozen and
strict (the text "100" is no number) and refuse keys that they do not know.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from invdiff.data.sets import builtin

# Built-in data sets: how many prompts and how many pictures of each prompt they have.
EMBEDDED_SETS = {name: (known.prompts, known.pictures) for name, known in builtin.SETS.items()}

# Estimators that look for groups: where they find none, there is nothing to train.
INFERRING = ("semantic", "profile", "amortised", "top_loss")

Whole = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(gt=0, le=1)]


def rule(holds: Callable[[list[Any]], bool], words: str) -> AfterValidator:
    """A check of a whole list; ``words`` completes "must ..."."""

    def check(values: list[Any]) -> list[Any]:
        if not holds(values):
            raise ValueError(words)
        return values

    return AfterValidator(check)


def _distinct(values: list[Any]) -> bool:
    return len(set(values)) == len(values)


def _ascending_with_one(values: list[float]) -> bool:
    return values == sorted(set(values)) and 1.0 in values


def _odd_one_out(batch: int) -> int:
    if batch % 2:
        raise ValueError(f"be even, one half for each group ({batch + 1} would do)")
    return batch


Levels = Annotated[
    list[Level], Field(min_length=1), rule(_distinct, "name each noise level only once")
]
Scales = Annotated[
    list[Annotated[float, Field(ge=1)]],
    Field(min_length=1),
    rule(_distinct, "name each guidance scale only once"),
]
Arms = Annotated[
    list[Literal["base", "guided"]],
    Field(min_length=1),
    rule(_distinct, "name each arm only once"),
]
Strengths = Annotated[
    list[Annotated[float, Field(ge=0)]],
    rule(_ascending_with_one, "be ascending and contain 1.0, the trained point"),
]
Trackers = Annotated[
    list[Literal["tensorboard", "wandb"]],
    rule(_distinct, "name each tracker only once"),
]
Window = Annotated[
    list[Share],
    Field(min_length=2, max_length=2),
    rule(lambda w: w[0] < w[1], "be [start, stop] with start < stop"),
]


class Section(BaseModel):
    """What all sections share: frozen, strict, no unknown keys, no infinities."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class ModelSection(Section):
    """The frozen base model."""

    path: str = Field(
        "faces",
        min_length=1,
        description="A built-in model, a folder in diffusers format, or a hub id.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to compute; auto takes a GPU if there is one."
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="Number format of the frozen model; the adapter is float32."
    )
    attention: Literal["auto", "native", "flash", "xformers"] = Field(
        "auto", description="How attention is computed; auto leaves it to the libraries."
    )


class DataSection(Section):
    """The pictures and prompts that the groups are inferred from."""

    path: str = Field(
        "faces",
        min_length=1,
        description="A built-in set, a folder of pictures with metadata or caption files, a saved "
        "Hugging Face data set, or .tar, .parquet or .npz files.",
    )
    prompt_column: str = Field(
        "", description="Metadata column with the captions; empty finds caption, text or prompt."
    )
    prompt_groups: Literal["auto", "caption", "meaning", "column"] = Field(
        "auto",
        description="What pictures are compared within: equal captions, captions that mean alike, "
        "or group_column; auto takes the captions if they repeat.",
    )
    group_column: str = Field(
        "", description="Metadata column whose values are the prompt groups, such as a profession."
    )
    label_column: str = Field(
        "", description="Metadata column with group labels; only the labels estimator reads it."
    )
    image_size: int = Field(0, ge=0, description="Pixels a side; 0 is the model's own size.")
    max_bad_share: Share = Field(
        0.05, description="Share of unreadable pictures above which the data is refused."
    )
    quarantine: str = Field(
        "",
        description="List of pictures to leave out: the file of `data check --quarantine`.",
    )
    min_images: Whole = Field(
        40, description="Prompts with fewer images than this are not searched for groups."
    )


class DiscoverSection(Section):
    """The max step: which images go with the model and which against it."""

    estimator: Literal[
        "semantic", "profile", "amortised", "top_loss", "labels", "random", "reference", "none"
    ] = Field("semantic", description="How groups are found; all but semantic are for comparison.")
    top_share: float = Field(
        0.2, gt=0, lt=0.5, description="Share of a prompt's images that top_loss takes."
    )
    images_per_prompt: Whole = Field(600, description="Images of each prompt that are scored.")
    levels: Levels = Field(
        [0.98, 0.94, 0.88, 0.75, 0.5], description="Noise levels at which images are scored."
    )
    feature_levels: Levels = Field(
        [0.05, 0.1, 0.15, 0.3], description="Noise levels at which the model's features are read."
    )
    draws: int = Field(
        2, ge=2, description="Noise draws for each level, shared by all images; at least 2."
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
    false_alarm: float = Field(
        0.01, gt=0, lt=1, description="Chance of finding groups where there are none."
    )
    batch: Whole = Field(64, description="Images in one pass through the model.")


class TrainSection(Section):
    """The min step: the guidance, a LoRA on the frozen denoiser."""

    steps: int = Field(
        800, ge=0, description="Training steps, each of one batch; 0 trains nothing."
    )
    batch: Annotated[int, Field(ge=2), AfterValidator(_odd_one_out)] = Field(
        32, description="Images in one step; even, half for each group."
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
    loss_space: Literal["v", "epsilon", "x0", "min_snr"] = Field(
        "v",
        description="Space of the loss, whatever the model predicts; min_snr is epsilon with the "
        "low noise levels held down.",
    )
    min_snr_gamma: float = Field(
        5.0, gt=0, description="Largest signal-to-noise ratio that counts in the space min_snr."
    )
    feedback: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.4, 0.6, 0.8],
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


class CalibrateSection(Section):
    """The search for the smallest strength that is enough."""

    guidance_scale: float = Field(2.5, ge=1, description="Guidance scale of the calibration.")
    images_per_prompt: Whole = Field(64, description="Images of each prompt and strength.")
    tolerance: float = Field(
        0.2, gt=0, le=1, description="Largest gap from even shares that is close enough."
    )
    strengths: Strengths = Field(
        [0.0, 0.5, 0.75, 1.0, 1.25, 1.5], description="Strengths to try, ascending, with 1.0."
    )


class SampleSection(Section):
    """Pictures before and after, from the same seeds."""

    prompts: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="Prompts to sample; empty takes the training prompts."
    )
    prompt_suffix: str = Field(
        "",
        description="Text that every prompt is drawn with at its end; the pictures are measured "
        "under the prompt without it.",
    )
    arms: Arms = Field(
        ["base", "guided"],
        description="Which pictures are drawn: the base model's, the guided model's.",
    )
    images_per_prompt: Whole = Field(400, description="Images of each prompt, arm and scale.")
    guidance_scales: Scales = Field([1.0, 2.5], description="Classifier-free guidance scales.")
    steps: Whole = Field(20, description="Denoising steps of one image.")
    strength: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="Strength of the guidance; auto takes the calibrated one."
    )
    window: Window = Field(
        [0.0, 1.0], description="Noise levels [start, stop] at which the guidance applies."
    )
    fuse: bool = Field(
        False,
        description="Add the adapter to the weights while drawing at strength 1 without a window: "
        "as fast as the base; a pixel may differ by a few steps of 255.",
    )
    batch: Whole = Field(64, description="Images in one pass through the model.")


class BaselinesSection(Section):
    """What the benchmark's baselines need to know about the data that a preset is for."""

    prompt_suffix: str = Field(
        ", please generate diverse outputs",
        min_length=1,
        description="sample.prompt_suffix of the benchmark's row with a suffix.",
    )


class ReportSection(Section):
    """The report."""

    title: str = Field("", description="Title of the report; empty makes one.")
