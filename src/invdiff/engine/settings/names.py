"""What a setting is called elsewhere and was called before, and the nearest name to a wrong one."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

RENAMED: Mapping[str, str] = {
    "discover.false_alarm": "discover.false_positive_rate",
    "discover.batch": "discover.batch_size",
    "train.batch": "train.batch_size",
    "train.optimiser": "train.optimizer",
    "train.ema": "train.ema_decay",
    "train.flip": "train.random_flip",
    "train.feedback": "train.share_feedback",
    "train.feedback_scales": "train.share_feedback_scales",
    "train.accumulate": "train.gradient_accumulation_steps",
    "train.save_every": "train.checkpointing_steps",
    "train.keep": "train.checkpoints_total_limit",
    "train.validate_every": "train.validation_steps",
    "train.preview_every": "train.preview_steps",
    "train.trackers": "train.report_to",
    "sample.batch": "sample.batch_size",
}
"""Key of an earlier version -> the same setting today."""
UNLISTED: Mapping[str, str] = {
    "discover.certainty": "study.certainty",
    "discover.feature_levels": "study.feature_levels",
    "train.level_focus": "study.level_focus",
    "train.objective": "study.objective",
    "train.target": "study.target",
    "sample.arms": "study.arms",
}
"""The same for what only comparisons change today: no setting of a user any more."""
REMOVED: Mapping[str, Any] = {
    "discover.top_share": 0.2,
    "discover.contrast_images": 300,
    "discover.adaptive": False,
    "discover.most_draws": None,
    "discover.enough_reliability": None,
    "discover.enough_agreement": None,
    "discover.most_groups": 8,
    "train.level_density": "focus",
    "train.level_sampling": "stratified",
    "train.logit_mean": None,
    "train.logit_std": None,
    "train.variance_warmup": 100,
    "train.dro_step": 0.1,
    "train.keep_others": True,
    "train.loss_space": "v",
    "train.min_snr_gamma": None,
    "train.max_bad_steps": 20,
    "train.held_share": 0.05,
    "sample.fuse": False,
    "evaluate.resamples": 2000,
    "evaluate.neighbours": 3,
    "report.title": None,
    "baselines.prompt_suffix": None,
}
"""Key of an earlier version that is gone -> the value it has today; None where it said nothing."""
GONE = ("baselines", "report")
"""Sections that have no setting left."""
SHARE, ESTIMATOR = "discover.against_share", "discover.estimator"

ELSEWHERE: Mapping[str, str] = {
    "train.batch_size": "batch_size train_batch_size",
    "train.checkpointing_steps": "save_steps",
    "train.checkpoints_total_limit": "save_total_limit",
    "train.ema_decay": "ema use_ema",
    "train.learning_rate": "lr",
    "train.optimizer": "use_8bit_adam",
    "train.rank": "lora_rank network_dim",
    "train.steps": "max_train_steps num_train_steps",
    "train.variance_weight": "lambda",
    "data.image_size": "resolution",
    "data.path": "train_data_dir",
    "data.prompt_column": "caption_column",
    "model.attention": "enable_xformers_memory_efficient_attention",
    "model.dtype": "mixed_precision torch_dtype",
    "model.path": "pretrained_model_name_or_path",
    "sample.guidance_scales": "guidance_scale",
    "sample.images_per_prompt": "num_images_per_prompt",
    "sample.steps": "num_inference_steps",
    "sample.strength": "lora_scale",
    "processes": "num_workers",
    "seed": "global_seed random_seed",
    "--out": "logging_dir output_dir resume resume_from_checkpoint",
}
"""The setting, or the option of the command -> what diffusers, kohya and other trainers call it."""
ALIASES = {alias: key for key, names in ELSEWHERE.items() for alias in names.split()}
NOT_NEEDED: Mapping[str, str] = {
    "snr_gamma": "the loss is that of v at all noise levels, which needs none",
    "min_snr_gamma": "the loss is that of v at all noise levels, which needs none",
    "lora_alpha": "it is the rank; sample.strength scales the adapter",
}


def formerly(key: str, prefix: str = "") -> str | None:
    """What became of a ``key`` of an earlier version, as a sentence; None if there was none."""
    if key in RENAMED:
        return f"{prefix}{key} is now {prefix}{RENAMED[key]}"
    if key == SHARE:
        return f"{prefix}{key} is now {prefix}discover.target: both shares, as in [0.7, 0.3]"
    if key in {*UNLISTED, *REMOVED, *GONE}:
        return f"{prefix}{key} is no setting any more: leave it out"
    return None


def translated(values: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Put the settings of an earlier version in ``values`` under their names of today, in place.

    Returns the keys that were found under another name, as ``"old -> new"``, and what cannot be
    had any more: the run was made in a way that this version does not know.
    """
    renamed, problems = [], []
    for old, new in {**RENAMED, **UNLISTED}.items():
        if (value := _taken(values, old)) is not None:
            _put(values, new, value)
            renamed += [f"{old} -> {new}"] if old in RENAMED else []
    for old, today in REMOVED.items():
        value = _taken(values, old)
        if None not in (value, today) and value != today:
            problems.append(f"{old} = {value!r}: this version has {today!r} alone")
    share = _taken(values, SHARE)
    if share not in (None, 0.5):
        _put(values, "discover.target", [1 - share, share])
        renamed.append(f"{SHARE} -> discover.target")
    estimator = _taken(values, ESTIMATOR)
    if estimator is not None:
        own = estimator in ("auto", "labels")
        _put(values, ESTIMATOR if own else "study.estimator", estimator)
    for section in GONE:
        if values.get(section) == {}:
            del values[section]
    return renamed, problems


def _taken(values: dict[str, Any], key: str) -> Any:
    """The value of ``key``, taken out of ``values``; None if it is not there."""
    section, _, name = key.partition(".")
    holder = values.get(section)
    return holder.pop(name, None) if isinstance(holder, dict) else None


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    section, _, name = key.partition(".")
    values.setdefault(section, {})[name] = value


def nearest(word: str, known: Sequence[str], prefix: str = "") -> str:
    """``; did you mean x?`` for the known key most like ``word``, wherever it lives.

    Names that other trainers have for it count (:data:`ALIASES`).
    """
    end = word.rpartition(".")[2]
    if end in NOT_NEEDED:
        return f"; {NOT_NEEDED[end]}"
    ends = {key.rpartition(".")[2]: key for key in reversed(known)}
    if word in ends or end in ALIASES:
        close = [ends[word] if word in ends else ALIASES[end]]
    else:
        close = difflib.get_close_matches(word, known, 1, 0.75)
        close = close or [ends[one] for one in difflib.get_close_matches(end, list(ends), 1, 0.75)]
    if not close:
        return ""
    return f"; did you mean {'' if close[0].startswith('--') else prefix}{close[0]}?"
