"""What a mistake in the settings is told: names of elsewhere and earlier ones, and the rules.

Each in words that whoever wrote it can act on.
"""

import difflib
import json
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
_RULES = {
    "greater_than_equal": "be at least {ge:g}",
    "greater_than": "be greater than {gt:g}",
    "less_than_equal": "be at most {le:g}",
    "less_than": "be less than {lt:g}",
    "finite_number": "be a finite number",
    "too_short": "have at least {min_length} items",
    "too_long": "have at most {max_length} items",
    "string_too_short": "not be empty",
    "value_error": "{error}",
    "int": "be a whole number",
    "float": "be a number",
    "string": "be text",
    "list": "be a list, as in [1.0, 2.5]",
    "bool": "be true or false",
    "model": "be a section of its own, as in [name]",
}
"""What pydantic calls a mistake, or its first word -> what completes "must ..."."""


def formerly(key: str, prefix: str = "") -> str | None:
    """What became of a ``key`` of an earlier version, as a sentence; None if there was none."""
    if key in RENAMED:
        return f"{prefix}{key} is now {prefix}{RENAMED[key]}"
    if key == SHARE:
        return f"{prefix}{key} is now {prefix}discover.target: both shares, as in [0.7, 0.3]"
    if key in {*UNLISTED, *REMOVED, *GONE}:
        return f"{prefix}{key} is no setting any more: leave it out"
    return None


def translated(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """The settings of an earlier version under their names of today.

    Returns them, the keys that were found under another name, as ``"old -> new"``, and what cannot
    be had any more: the run was made in a way that this version does not know.
    """
    sections = {name: held for name, held in values.items() if isinstance(held, Mapping)}
    flat = {
        f"{name}.{key}": value for name, held in sections.items() for key, value in held.items()
    }
    renamed = [f"{old} -> {new}" for old, new in RENAMED.items() if old in flat]
    for old, new in {**RENAMED, **UNLISTED}.items():
        if old in flat:
            flat[new] = flat.pop(old)
    problems = [
        f"{old} = {flat[old]!r}: this version has {today!r} alone"
        for old, today in REMOVED.items()
        if today is not None and flat.get(old, today) != today
    ]
    share = flat.pop(SHARE, 0.5)
    if share != 0.5:
        flat["discover.target"] = [1 - share, share]
        renamed.append(f"{SHARE} -> discover.target")
    if flat.get(ESTIMATOR, "auto") not in ("auto", "labels"):
        flat["study.estimator"] = flat.pop(ESTIMATOR)
    found: dict[str, Any] = {key: value for key, value in values.items() if key not in sections}
    for key, value in flat.items():
        section, _, name = key.partition(".")
        if key not in REMOVED:
            found.setdefault(section, {})[name] = value
    return found, renamed, problems


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


def describe_problem(found: Mapping[str, Any]) -> str:
    """One line for one entry of ``pydantic.ValidationError.errors()``."""
    loc, kind, context = found["loc"], found["type"], found.get("ctx", {})
    if not loc:  # a rule over several settings names its setting itself
        return str(context["error"])
    name, shown = ".".join(map(str, loc[:2])), _shown(found["input"])
    if any(isinstance(part, str) for part in loc[2:]):  # a branch of the only union there is
        return f'{name}: must be a number of at least 0, or "auto", but is {shown}'
    return f"{name}: must {_rule(kind, context, found['msg'])}, but is {shown}"


def _rule(kind: str, context: Mapping[str, Any], otherwise: str) -> str:
    if kind == "literal_error":
        return f"be one of {context['expected'].replace(' or ', ', ')}".replace("'", '"')
    words = _RULES.get(kind) or _RULES.get(kind.partition("_")[0])
    return words.format(**context).replace(" 1 items", " 1 item") if words else otherwise


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
