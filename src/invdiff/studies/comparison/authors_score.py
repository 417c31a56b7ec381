"""The score of the authors' released code."""

import numpy as np
import torch

from invdiff.core.diffusion.schedule import add_noise, clean_from_prediction
from invdiff.engine.base_model.conditions import encode_known
from invdiff.engine.base_model.loading import require_finite, resolve
from invdiff.engine.discovery.passes import Pass
from invdiff.engine.discovery.scoring import Passes
from invdiff.engine.distributed import randomness
from invdiff.engine.storage.hashed_tensors import Tensors, row_parts


def authors_score(passes: Passes, rows: np.ndarray) -> np.ndarray:
    """Its value of each image in ``rows``."""
    work = Reference(levels=(0.0,), draws=1, **passes.common())
    shards = [(passes.latents[part], passes.prompts(part), part) for part in row_parts(rows)]
    title = "scoring as the authors do"
    found: np.ndarray = passes.cached(work, rows, shards, "reference", title)["distance"].numpy()
    return found


class Reference(Pass):
    """The distances behind that score, over one shard of images."""

    @torch.no_grad()
    def __call__(self, shard: tuple[torch.Tensor, list[str], np.ndarray]) -> Tensors:
        """Latents, prompts and image numbers to ``distance`` (n,).

        The squared distance of the predicted noise to the *clean latent*, at one random level and
        with one noise for each image.
        """
        latents, prompts, numbers = shard
        denoiser = resolve(self.source)
        schedule, device = denoiser.schedule, denoiser.module.device
        owners = [randomness.generator(self.seed, "reference", int(number)) for number in numbers]
        noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in owners])
        draws = [torch.randint(schedule.timesteps, (), generator=g) for g in owners]
        timestep = torch.stack(draws)
        known = encode_known(denoiser, prompts)
        distance = []
        for rows in torch.arange(len(latents)).split(self.batch):
            clean, level = latents[rows].to(device), timestep[rows].to(device)
            noisy = add_noise(schedule, clean, noise[rows].to(device), level)
            condition = known([prompts[i] for i in rows.tolist()], device)
            prediction = denoiser.predict(noisy, level, condition)
            signal, sigma = schedule.factors(level, clean)
            estimate = clean_from_prediction(schedule, prediction, noisy, level)
            epsilon = (noisy - signal * estimate) / sigma.clamp_min(1e-4)
            distance.append((epsilon - clean).square().flatten(1).mean(1).cpu())
        return {"distance": require_finite(torch.cat(distance), "distances", denoiser)}
