"""What is measured while or after training: losses under fixed noise, and shares of the groups.

The loss of a training step is mostly chance: other pictures, levels and noise each time. Fixed
losses, of the certificate and of pictures held out, have all three the same, so that two values
differ by what was learnt in between alone. Share feedback draws pictures of the half-trained model:
what they show corrects the shares that are aimed at.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from invdiff.core.balancing.aims import first_aim
from invdiff.core.balancing.certificate import certificate
from invdiff.core.diffusion.losses import score_one
from invdiff.core.groups.memberships import Mix, hard, memberships, shares_of
from invdiff.engine.base_model.conditions import encode_known
from invdiff.engine.discovery.groups import Model
from invdiff.engine.distributed import randomness
from invdiff.engine.distributed.randomness import shared_noise
from invdiff.engine.sampling.group_shares import log_ratios
from invdiff.engine.settings.schema import Config
from invdiff.engine.training.mixture import Mixture, Regrets
from invdiff.errors import DataError
from invdiff.model.denoiser import Denoiser
from invdiff.model.lora import adapter

LEVELS = (0.95, 0.85, 0.7, 0.4)
IMAGES_PER_GROUP = 64  # of the certificate
HELD_IMAGES = 256
HELD_SHARE = 0.05  # of the images: enough for a curve, and training does not miss them


@torch.no_grad()
def fixed_losses(
    config: Config, denoiser: Denoiser, mixture: Mixture, rows: np.ndarray
) -> np.ndarray:
    """Mean v-space loss of each image over the levels, its own prompt, shared noise."""
    device = denoiser.module.device
    known = encode_known(denoiser, mixture.prompt[rows].tolist())
    total = []
    for part in np.array_split(rows, max(1, len(rows) // config.discover.batch_size)):
        clean = mixture.latents[torch.from_numpy(part)].to(device)
        condition = known(mixture.prompt[part].tolist(), device)
        losses = torch.zeros(len(part), device=device)
        for level in LEVELS:
            noise = shared_noise(clean.shape[1:], config.seed, level, 0, device)
            losses += score_one(denoiser.predict, denoiser.schedule, clean, condition, noise, level)
        total.append((losses / len(LEVELS)).cpu().numpy())
    return np.concatenate(total).astype(np.float64)


def certify(config: Config, denoiser: Denoiser, mixture: Mixture) -> dict[str, Any] | None:
    """Certificates ``before`` (adapter off) and ``after`` (on), or None with nothing to balance."""
    rows = _rows(config.seed, mixture)
    if len(rows) == 0:
        return None
    prompts, q = mixture.pool[rows].tolist(), memberships(mixture.against[rows])
    after = fixed_losses(config, denoiser, mixture, rows)
    with adapter.disabled(denoiser.module):
        before = fixed_losses(config, denoiser, mixture, rows)
    return {
        "levels": list(LEVELS),
        "before": certificate(before, prompts, q),
        "after": certificate(after, prompts, q),
    }


def _rows(seed: int, mixture: Mixture) -> np.ndarray:
    """The same number of images of each group of each balanced prompt, at most."""
    chosen = [np.zeros(0, int)]
    of = hard(mixture.against)
    for name in mixture.balanced:
        for group in range(mixture.groups):
            known = np.flatnonzero((mixture.pool == name) & (of == group))
            shuffled = randomness.epoch_order(len(known), seed, "certificate", name, group).numpy()
            chosen.append(known[shuffled[:IMAGES_PER_GROUP]])
    return np.sort(np.concatenate(chosen))


def is_held(seed: int, sample_ids: Sequence[str], share: float) -> np.ndarray:
    """Which pictures are held out; belongs to each picture alone, whatever the others are."""
    return np.array(
        [randomness.derive(seed, "held", name) % 2**20 < share * 2**20 for name in sample_ids]
    )


def hold_out(config: Config, mixture: Mixture) -> tuple[Mixture, Mixture | None]:
    """What is trained on and what is held out; nothing is without validation.

    Raises:
        DataError: none or all of the pictures would be held out.
    """
    if not config.train.validation_steps:
        return mixture, None
    held = is_held(config.seed, mixture.sample_id.tolist(), HELD_SHARE)
    if held.all() or not held.any():
        raise DataError(
            f"validation would hold {held.sum()} of {len(held)} pictures "
            "out: give more, or train.validation_steps = 0"
        )
    shown = np.flatnonzero(held)[:HELD_IMAGES]
    return mixture.subset(np.flatnonzero(~held)), mixture.subset(shown)


def held_loss(config: Config, denoiser: Denoiser, held: Mixture) -> float:
    """v-space loss of held-out pictures, averaged over fixed levels and over the pictures.

    The groups of a prompt count the same, as in training.
    """
    losses = fixed_losses(config, denoiser, held, np.arange(len(held.prompt)))
    weights = held.weights(Regrets(held.balanced, groups=held.groups), 0.0).double().numpy()
    return float(losses @ weights / weights.sum())


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
