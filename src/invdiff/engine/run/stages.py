"""The stages of a run: their order, the settings that touch them, the files that they write."""

STAGES = ("discover", "train", "sample", "evaluate", "report")

# The first stage whose result a section (or a single key) can change. `pipeline` and `data` that
# are handed over as Python objects count like the model's and the data's path.
TOUCHES = {
    "seed": "discover",
    "model": "discover",
    "pipeline": "discover",
    "data": "discover",
    "discover": "discover",
    "train": "train",
    "calibrate": "train",
    "sample": "sample",
    "sample.steps": "train",  # the strength is calibrated on pictures drawn this way
    "sample.window": "train",
    "evaluate": "evaluate",
    "study": "discover",
    "study.objective": "discover",  # of pooled prompts the weights in groups.parquet are others
    "study.target": "train",
    "study.level_focus": "train",
    "study.arms": "sample",
}

# How the work is cut up and where it is done changes no result but by rounding, because every
# random draw has an owner; nor does what is only told or kept.
TOUCHES_NOTHING = frozenset(
    {
        "processes",
        "model.device",
        "discover.batch_size",
        "sample.batch_size",
        "train.gradient_accumulation_steps",
        "train.compile",
        "train.gradient_checkpointing",
        "train.checkpoints_total_limit",
        "train.preview_steps",
        "train.processes",
        "train.checkpointing_steps",
        "train.report_to",
    }
)

FILES = {
    "discover": (
        "cache",
        "quarantine.json",
        "scores.parquet",
        "groups.parquet",
        "group_model.safetensors",
        "discovery.json",
    ),
    "train": (
        "adapter",
        "checkpoints",
        "previews",
        "tensorboard",
        "training-log.jsonl",
        "training.json",
        "wandb",
    ),
    "sample": ("samples", "samples.parquet"),
    "evaluate": ("strength-curve", "metrics.json"),
    "report": ("report.html",),
}

NEEDS = dict(zip(STAGES[1:], STAGES, strict=False))


def from_stage(stage: str) -> tuple[str, ...]:
    """``stage`` and all that follow it."""
    return STAGES[STAGES.index(stage) :]


def touched(key: str) -> str | None:
    """The first stage that the setting ``key`` can change, or None."""
    if key in TOUCHES_NOTHING:
        return None
    return TOUCHES.get(key) or TOUCHES[key.partition(".")[0]]
