"""The certificate on disk: group risks before and after, on fixed images, noise and levels."""

from typing import Any

import numpy as np
import torch

from invdiff.core.balancing.certificate import certificate
from invdiff.core.diffusion.losses import latent_loss
from invdiff.core.diffusion.schedule import add_noise
from invdiff.core.groups.memberships import hard, memberships
from invdiff.engine.base_model.conditions import encode_known
from invdiff.engine.distributed import randomness
from invdiff.engine.distributed.randomness import shared_noise
from invdiff.engine.settings.config import Config
from invdiff.engine.training.mixture import Mixture
from invdiff.model.denoiser import Denoiser
from invdiff.model.lora import adapter

IMAGES_PER_GROUP = 64
LEVELS = (0.95, 0.85, 0.7, 0.4)


def certify(config: Config, denoiser: Denoiser, mixture: Mixture) -> dict[str, Any] | None:
    """Certificates ``before`` (adapter off) and ``after`` (on), or None with nothing to balance."""
    rows = _rows(config.seed, mixture)
    if len(rows) == 0:
        return None
    prompts = mixture.pool[rows].tolist()
    q = memberships(mixture.against[rows])
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
            inside = (mixture.pool == name) & (of == group)
            known = np.flatnonzero(inside)
            shuffled = randomness.epoch_order(len(known), seed, "certificate", name, group).numpy()
            chosen.append(known[shuffled[:IMAGES_PER_GROUP]])
    return np.sort(np.concatenate(chosen))


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
            timestep = torch.full((len(part),), denoiser.schedule.timestep(level), device=device)
            noisy = add_noise(denoiser.schedule, clean, noise.expand_as(clean), timestep)
            prediction = denoiser.predict(noisy, timestep, condition)
            losses += latent_loss(denoiser.schedule, prediction, noisy, clean, timestep)
        total.append((losses / len(LEVELS)).cpu().numpy())
    return np.concatenate(total).astype(np.float64)
