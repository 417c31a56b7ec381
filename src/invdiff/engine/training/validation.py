"""Losses of pictures that are not trained on, under noise that is always the same.

The loss of a training step is mostly chance: other pictures, levels and noise each time. Here all
three are fixed, so that two values differ by what was learnt in between alone.
"""

from collections.abc import Sequence

import numpy as np

from invdiff.engine.distributed import randomness
from invdiff.engine.settings.config import Config
from invdiff.engine.training.certificate import fixed_losses
from invdiff.engine.training.mixture import Mixture
from invdiff.engine.training.regrets import Regrets
from invdiff.errors import DataError
from invdiff.model.denoiser import Denoiser

IMAGES = 256
HELD_SHARE = 0.05  # of the images: enough for a curve, and training does not miss them


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
    section = config.train
    if not section.validation_steps:
        return mixture, None
    held = is_held(config.seed, mixture.sample_id.tolist(), HELD_SHARE)
    if held.all() or not held.any():
        raise DataError(
            f"validation would hold {held.sum()} of {len(held)} pictures "
            "out: give more, or train.validation_steps = 0"
        )
    shown = np.flatnonzero(held)[:IMAGES]
    return mixture.subset(np.flatnonzero(~held)), mixture.subset(shown)


def held_loss(config: Config, denoiser: Denoiser, held: Mixture) -> float:
    """v-space loss of held-out pictures, averaged over fixed levels and over the pictures.

    The groups of a prompt count the same, as in training.
    """
    losses = fixed_losses(config, denoiser, held, np.arange(len(held.prompt)))
    weights = held.weights(Regrets(held.balanced, groups=held.groups), 0.0).double().numpy()
    return float(losses @ weights / weights.sum())
