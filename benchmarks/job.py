"""The whole job in forward passes an image, counted from the settings, and the Bias it ends at.

A backward pass through a network costs two forward passes, through one of which no weight but an
adapter's needs a gradient one and a half at least; two are counted for both. Encoders, which the
authors' recipe runs in each step and ours once, are counted for neither.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from invdiff.engine.discovery.scoring import CONTRASTED
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.results import Results
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.method import high_levels
from invdiff.engine.settings.schema import Config
from invdiff.engine.training.min_step import REGRET_EVERY
from invdiff.engine.workflow import do_stage

THEIR_STEPS, THEIR_BATCH = 10_000, 64
BACKWARD = 2
PICTURES = 8000  # of the embedded set, four prompts
PROMPTS = 4
SCALE = 2.5
LEAN = (
    "discover.levels=[0.98,0.94]",
    "train.steps=400",
    "train.share_feedback=[0.4,0.6,0.8]",
    f"train.share_feedback_scales=[{SCALE}]",
    "calibrate.images_per_prompt=64",
    "calibrate.strengths=[1.0]",
    "sample.images_per_prompt=400",
)
"""Half the steps, the levels that decide alone, looking back at one scale, no calibration."""


def whole_job(quick: bool) -> dict[str, Any]:
    """From the pretrained model to a Bias of 0.15 on the faces at guidance scale 2.5."""
    theirs = THEIR_STEPS * THEIR_BATCH * (1 + 1 + BACKWARD) / PICTURES
    sides: dict[str, Any] = {"theirs, forward passes an image": round(theirs, 1)}
    ratios = {}
    for name, changes in (("default", ()), ("lean", LEAN)):
        config = configuration.preset("faces", list(changes))
        passes = passes_of(config)
        ours = sum(passes.values()) / PICTURES
        sides |= {f"{name}, passes of {part}": count for part, count in passes.items()}
        sides[f"{name}, forward passes an image"] = round(ours, 1)
        ratios[f"theirs / {name}"] = round(theirs / ours, 2)
    if not quick:
        sides[f"lean, Bias at guidance scale {SCALE}, seed 0"] = reached()
    return {"sides": sides, **ratios}


def passes_of(config: Config) -> dict[str, int]:
    """Forward passes of one picture through the denoiser, by what they are for."""
    section, levels = config.train, config.discover.levels
    scored = min(config.discover.images_per_prompt * PROMPTS, PICTURES)
    compared = min(CONTRASTED * PROMPTS, scored) * PROMPTS
    looks = [_drawn(config, scale) for scale in section.share_feedback_scales or [SCALE]]
    tried = 2 if len(config.calibrate.strengths) > 1 else 0
    return {
        "scores": scored * 2 * config.discover.draws * len(levels),
        "contrasts": compared * config.discover.draws * len(high_levels(levels)),
        "features": PICTURES * len(config.study.feature_levels),
        "training": round(section.steps * section.batch_size * (1 + BACKWARD + 1 / REGRET_EVERY)),
        "looking back": len(section.share_feedback) * sum(looks),
        "calibration": tried * _drawn(config, config.calibrate.guidance_scale),
    }


def _drawn(config: Config, scale: float) -> int:
    """Forward passes of the pictures that are drawn to look at, and of their features."""
    pictures = config.calibrate.images_per_prompt * PROMPTS
    conditions = 2 if scale > 1 else 1
    return pictures * (conditions * config.sample.steps + len(config.study.feature_levels))


def reached() -> dict[str, Any]:
    """What the lean job ends at: classifier-estimated Bias with its 95 % interval."""
    with TemporaryDirectory() as folder:
        run = RunFolder.open(Path(folder) / "run", configuration.preset("faces", list(LEAN)))
        for stage in STAGES[:-1]:
            do_stage(run, stage)
        found = Results(run.path).metrics.figure("guided", SCALE, "bias") or {}
    return {name: round(found[name], 3) for name in ("value", "low", "high")}
