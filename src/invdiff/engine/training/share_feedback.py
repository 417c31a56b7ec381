"""Share feedback: what pictures of the half-trained model show corrects the shares aimed at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from invdiff.core.balancing.aims import first_aim
from invdiff.core.groups.memberships import Mix, shares_of
from invdiff.engine.discovery.groups import Model
from invdiff.engine.sampling.group_shares import log_ratios
from invdiff.engine.settings.config import Config
from invdiff.engine.training.mixture import Mixture
from invdiff.model.denoiser import Denoiser


@dataclass(frozen=True)
class MidTrainingCheck:
    """What a check draws with: the model of each prompt's groups, and captions."""

    models: Mapping[str, Model]
    captions: Mapping[str, Sequence[str]]


def feedback_scales(config: Config) -> list[float]:
    """The guidance scales at which pictures are to show the wanted mix."""
    return config.train.share_feedback_scales or [config.calibrate.guidance_scale]


def first_aims(config: Config, mixture: Mixture) -> dict[str, Mix]:
    """Where training starts from, for each prompt that is to reach another mix than even.

    Also for prompts that show that mix already: guidance would not leave it so, as it leaves even
    shares.
    """
    names = (*mixture.balanced, *mixture.monitored)
    wanted = {name: mixture.wanted_of(name) for name in names}
    return {
        name: first_aim(mix, feedback_scales(config))
        for name, mix in wanted.items()
        if np.ptp(shares_of(mix)[shares_of(mix) > 0]) > 1e-9
    }


def check_shares(
    config: Config,
    denoiser: Denoiser,
    mixture: Mixture,
    check: MidTrainingCheck,
    step: int,
    spread: Callable[..., Any],
) -> dict[str, list[np.ndarray]]:
    """The shares of the groups in pictures drawn now, by monitored prompt: one for each scale.

    The model of the inferred groups estimates them, at the scales that people sample with.
    """
    chosen = {name: check.models[name] for name in mixture.monitored if name in check.models}
    drawn = [
        log_ratios(
            config,
            denoiser,
            None,  # the network carries the adapter already
            1.0,
            chosen,
            check.captions,
            scale=scale,
            owner=f"feedback {step} {scale:g}",
            title=f"mid-training check at step {step}, scale {scale:g}",
            spread=spread,
        )
        for scale in (feedback_scales(config) if chosen else ())
    ]
    return {name: [model.shares(seen[name]) for seen in drawn] for name, model in chosen.items()}
