"""How much work a configuration asks for, in denoiser passes.

One pass takes one image through the denoiser once. A pass that is trained counts three times: its
gradient costs about two more.
"""

from collections.abc import Sized
from dataclasses import dataclass

from invdiff.core.measurement.content import LEVELS, MOST_TEXTS
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.settings.config import Config

TRAINED = 3


@dataclass(frozen=True)
class Work:
    """What one stage will do; ``passes`` are for one prompt where the prompts are not known."""

    stage: str
    passes: int
    detail: str


def prompts_of(config: Config) -> int | None:
    """How many prompts the run has, where that is known without reading the data."""
    known = EMBEDDED_SETS.get(config.data.path)
    return known[0] if known else None


def work_plan(config: Config, one_pass: bool = False) -> tuple[Work, ...]:
    """The stages in order, each with its work.

    With ``one_pass`` guidance is an input of the denoiser (Flux), so that a guided step takes one
    pass instead of two.
    """
    prompts = prompts_of(config) or 1
    branches = 1 if one_pass else 2
    return (
        _discover(config, prompts),
        _train(config, prompts, branches),
        _sample(config, len(config.sample.prompts) or prompts, branches),
        Work("evaluate", 0, "every figure with its interval"),
        Work("report", 0, "one HTML file"),
    )


def _discover(config: Config, prompts: int) -> Work:
    asked = config.discover
    _, held = EMBEDDED_SETS.get(config.data.path, (0, asked.images_per_prompt))
    scored = prompts * min(asked.images_per_prompt, held)
    levels, features = len(asked.levels), len(config.study.feature_levels)
    scoring = scored * levels * asked.draws * 2  # under the prompt and under none
    read = prompts * held + scored  # the scored ones again, to see how stable the groups are
    detail = (
        f"{scored} images x {levels} levels x {asked.draws} draws x 2 conditions, "
        f"features at {features} levels"
    )
    return Work("discover", scoring + read * features, detail)


def _train(config: Config, prompts: int, branches: int) -> Work:
    asked, calibrate = config.train, config.calibrate
    training = asked.steps * asked.batch_size * TRAINED
    images = prompts * calibrate.images_per_prompt
    walks = sum(
        _walks(strength, calibrate.guidance_scale, branches) for strength in calibrate.strengths
    )
    compared = len(calibrate.strengths) * len(LEVELS) * (1 + min(prompts, 1 + MOST_TEXTS))
    scales = asked.share_feedback_scales or [calibrate.guidance_scale]
    checks = asked.share_feedback
    walks += len(checks) * sum(_walks(1.0, scale, branches) for scale in scales)
    told = f"{_counted(checks, 'mid-training check')} and " if checks else ""
    detail = (
        f"{asked.steps} steps of {asked.batch_size} images, rank {asked.rank}; at most "
        f"{images} images for each of {told}{_counted(calibrate.strengths, 'strength')}"
    )
    return Work("train", training + images * (walks * config.sample.steps + compared), detail)


def _sample(config: Config, prompts: int, branches: int) -> Work:
    asked = config.sample
    images = prompts * asked.images_per_prompt
    guided = 1.0 if asked.strength == "auto" else asked.strength
    strengths = [0.0 if arm == "base" else guided for arm in config.study.arms]
    walks = sum(
        _walks(strength, w, branches) for strength in strengths for w in asked.guidance_scales
    )
    detail = (
        f"{images} images x {_counted(strengths, 'arm')} x "
        f"{_counted(asked.guidance_scales, 'guidance scale')} x {asked.steps} steps"
    )
    return Work("sample", images * walks * asked.steps, detail)


def _counted(items: Sized, noun: str) -> str:
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")


def _walks(strength: float, scale: float, branches: int) -> int:
    """Passes of one denoising step: two for guidance scales above 1, two between the strengths."""
    return (1 if scale == 1 else branches) * (1 if strength in (0.0, 1.0) else 2)
