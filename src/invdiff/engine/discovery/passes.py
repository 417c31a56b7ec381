"""The forward passes of discovery, each over one shard of images, picklable for workers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch

from invdiff.core.diffusion.losses import score_batch, score_one
from invdiff.core.diffusion.schedule import add_noise
from invdiff.engine.base_model.conditions import encode_known
from invdiff.engine.base_model.loading import Source, require_finite, resolve
from invdiff.engine.distributed.randomness import shared_noise
from invdiff.engine.storage.hashed_tensors import Tensors
from invdiff.model.denoiser import Denoiser


@dataclass(frozen=True)
class Pass(ABC):
    """What all shards of a pass share."""

    source: Source
    seed: int
    levels: tuple[float, ...]
    draws: int
    batch: int

    @abstractmethod
    def __call__(self, shard: Any) -> Tensors:
        """What the denoiser makes of one shard."""


@dataclass(frozen=True)
class Score(Pass):
    """Losses under the own and the null prompt."""

    @torch.no_grad()
    def __call__(self, shard: tuple[torch.Tensor, list[str]]) -> Tensors:
        """Latents and prompts to ``loss`` and ``null_loss`` (n, level, draw)."""
        latents, prompts = shard
        denoiser = resolve(self.source)
        device = denoiser.module.device
        known = encode_known(denoiser, prompts)
        shape = (len(latents), len(self.levels), self.draws)
        loss, null_loss = torch.empty(shape), torch.empty(shape)
        for start in range(0, len(latents), self.batch):
            rows = slice(start, start + self.batch)
            clean = latents[rows].to(device)
            own = prompts[rows]
            conditions = known(own + [""] * len(own), device)
            for k, level in enumerate(self.levels):
                for m in range(self.draws):
                    noise = shared_noise(clean.shape[1:], self.seed, level, m, device)
                    loss[rows, k, m], null_loss[rows, k, m] = score_batch(
                        denoiser.predict, denoiser.schedule, clean, conditions, noise, level
                    )
        for losses in (loss, null_loss):
            require_finite(losses, "losses of pictures", denoiser)
        return {"loss": loss, "null_loss": null_loss}


@dataclass(frozen=True)
class Contrast(Pass):
    """Losses of every image under each of a few prompts, ``texts``."""

    texts: tuple[str, ...]

    @torch.no_grad()
    def __call__(self, latents: torch.Tensor) -> Tensors:
        """Latents to ``loss`` (n, text, level, draw)."""
        denoiser = resolve(self.source)
        device, known = denoiser.module.device, encode_known(denoiser, self.texts)
        loss = torch.empty((len(latents), len(self.texts), len(self.levels), self.draws))
        for start in range(0, len(latents), self.batch):
            rows = slice(start, start + self.batch)
            clean = latents[rows].to(device)
            for c, text in enumerate(self.texts):
                conditions = known([text] * len(clean), device)
                for k, level in enumerate(self.levels):
                    for m in range(self.draws):
                        noise = shared_noise(clean.shape[1:], self.seed, level, m, device)
                        loss[rows, c, k, m] = score_one(
                            denoiser.predict, denoiser.schedule, clean, conditions, noise, level
                        )
        return {"loss": require_finite(loss, "losses of pictures", denoiser)}


class Features(Pass):
    """Bottleneck features under the null prompt."""

    @torch.no_grad()
    def __call__(self, latents: torch.Tensor) -> Tensors:
        """Latents to ``feature`` (n, level * width), of the last of the ``draws``."""
        denoiser = resolve(self.source)
        parts = []
        for start in range(0, len(latents), self.batch):
            clean = latents[start : start + self.batch]
            parts.append(self._draw(denoiser, clean, self.draws - 1))
        return {"feature": require_finite(torch.cat(parts), "bottleneck features", denoiser)}

    def _draw(self, denoiser: Denoiser, clean: torch.Tensor, draw: int) -> torch.Tensor:
        device, schedule = denoiser.module.device, denoiser.schedule
        clean = clean.float().to(device)
        null = denoiser.encode_prompts([""]).to(device).expand(len(clean))
        with denoiser.bottleneck() as seen:
            for level in self.levels:
                timestep = torch.full((len(clean),), schedule.timestep(level), device=device)
                noise = shared_noise(clean.shape[1:], self.seed, level, draw, device)
                noisy = add_noise(schedule, clean, noise.expand_as(clean), timestep)
                denoiser.predict(noisy, timestep, null)
        return torch.cat(seen, 1).cpu()
