"""The whole job in forward passes an image, counted from the settings; nothing is run.

A backward pass through a network costs two forward passes, through one of which no weight but an
adapter's needs a gradient one and a half at least; two are counted for both.
"""

from typing import Any

from invdiff.engine import config as configuration
from invdiff.engine.training.objective import REGRET_EVERY

THEIR_STEPS, THEIR_BATCH = 10_000, 64
BACKWARD = 2
PICTURES = 8000  # of the embedded set, four prompts
PROMPTS = 4


def whole_job(quick: bool) -> dict[str, Any]:
    """From the pretrained model to the adapter of the default recipe on the faces."""
    config = configuration.preset("faces")
    scales = len(config.train.feedback_scales) or 1
    scored = min(config.discover.images_per_prompt * PROMPTS, PICTURES)
    passes = {
        "scores": scored * 2 * config.discover.draws * len(config.discover.levels),
        "features": (PICTURES + scored) * len(config.discover.feature_levels),
        "training": round(
            config.train.steps * config.train.batch * (1 + BACKWARD + 2 / REGRET_EVERY)
        ),
        "looking back": len(config.train.feedback) * scales * _drawn(config),
        "calibration": 2 * _drawn(config),
    }
    ours = sum(passes.values()) / PICTURES
    theirs = THEIR_STEPS * THEIR_BATCH * (1 + 1 + BACKWARD) / PICTURES
    return {
        "passes of ours": passes,
        "ours, forward passes an image": round(ours, 1),
        "theirs, forward passes an image": round(theirs, 1),
        "theirs / ours": round(theirs / ours, 2),
    }


def _drawn(config: configuration.Config) -> int:
    """Forward passes of the pictures that are drawn to look at, and of their features."""
    pictures = config.calibrate.images_per_prompt * PROMPTS
    return pictures * (2 * config.sample.steps + len(config.discover.feature_levels))
