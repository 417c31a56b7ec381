"""The stages of a run: their order, the settings that touch them, the files that they write."""

STAGES = ("discover", "train", "sample", "evaluate", "report")

# The first stage whose result a section (or a single key) can change. `pipeline` and `data` that
# are handed over as Python objects count like the model's and the data's path.
TOUCHES: dict[str, str | None] = {
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
    # How the work is cut up and where it is done changes no result but by rounding, because every
    # random draw has an owner; nor does what is only told or kept.
    "processes": None,
    "model.device": None,
    "discover.batch_size": None,
    "sample.batch_size": None,
    "train.gradient_accumulation_steps": None,
    "train.compile": None,
    "train.gradient_checkpointing": None,
    "train.checkpoints_total_limit": None,
    "train.preview_steps": None,
    "train.processes": None,
    "train.checkpointing_steps": None,
    "train.report_to": None,
}

FILES = {
    "discover": (
        "cache",
        "quarantine.json",
        "scores.parquet",
        "groups.parquet",
        "group_model.safetensors",
        "discovery.json",
        "attributes.json",
        "attributes.parquet",
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
    return TOUCHES[key] if key in TOUCHES else TOUCHES[key.partition(".")[0]]
