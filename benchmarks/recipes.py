"""One training step of three recipes, on the networks of any Stable Diffusion.

``Theirs`` follows what the authors' released trainer does (frozen base, full trainable copy, convex
mix of the two, encoders inside the step), written here from that description. ``PlainLora`` is the
loop of diffusers' own LoRA example. ``Ours`` is the trainer of the package.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor

from invdiff.engine.distributed.team import Team
from invdiff.engine.settings import config as configuration
from invdiff.engine.training.mixture import Mixture
from invdiff.engine.training.trainer import Trainer, prepared
from invdiff.model.denoiser import Denoiser
from invdiff.model.lora import adapter

RANK = 8
MIX = 0.5  # their share of the trainable copy
GROUPS = 2
RARE = 0.1


class Encoders:
    """Autoencoder and text encoder that a step runs its pictures and prompts through."""

    def __init__(self, vae: AutoencoderKL, text_encoder: torch.nn.Module) -> None:
        self.vae, self.text_encoder = vae.requires_grad_(False), text_encoder.requires_grad_(False)

    def __call__(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of pictures (n, 3, h, w) in [-1, 1] and hidden states of token numbers."""
        with torch.no_grad():
            latents = self.vae.encode(pixels).latent_dist.sample()
            return latents * self.vae.config.scaling_factor, self.text_encoder(tokens)[0]


class Theirs:
    """Base and full copy, mixed; mean of the group losses and lambda times their variance."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDPMScheduler) -> None:
        self.base, self.scheduler = unet.requires_grad_(False), scheduler
        self.copy = copy.deepcopy(unet).requires_grad_(True)
        self.optimiser = torch.optim.AdamW(self.copy.parameters(), lr=1e-4, weight_decay=1e-2)

    def __call__(self, latents: Tensor, hidden: Tensor) -> float:
        """One step on latents and hidden states; returns its loss."""
        noise = torch.randn_like(latents)
        timestep = torch.randint(self.scheduler.config.num_train_timesteps, (len(latents),))
        noisy = self.scheduler.add_noise(latents, noise, timestep)
        with torch.no_grad():
            base = self.base(noisy, timestep, hidden).sample
        mixed = (1 - MIX) * base + MIX * self.copy(noisy, timestep, hidden).sample
        error = (mixed - target_of(self.scheduler, latents, noise, timestep)).square()
        losses = [part.mean() for part in error.chunk(min(GROUPS, len(latents)))]
        risk = torch.stack(losses)
        return finished(
            self.optimiser, list(self.copy.parameters()), risk.mean() + risk.var(correction=0)
        )


class PlainLora:
    """LoRA on the attention layers, one loss over the batch."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDPMScheduler) -> None:
        self.unet, self.scheduler = unet.requires_grad_(False), scheduler
        layers = ["to_k", "to_q", "to_v", "to_out.0"]
        unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layers))
        self.trained = [tensor for tensor in unet.parameters() if tensor.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=1e-4, weight_decay=1e-2)

    def __call__(self, latents: Tensor, hidden: Tensor) -> float:
        """One step on latents and hidden states; returns its loss."""
        noise = torch.randn_like(latents)
        timestep = torch.randint(self.scheduler.config.num_train_timesteps, (len(latents),))
        noisy = self.scheduler.add_noise(latents, noise, timestep)
        target = target_of(self.scheduler, latents, noise, timestep)
        error = (self.unet(noisy, timestep, hidden).sample - target).square()
        return finished(self.optimiser, self.trained, error.mean())


class Ours:
    """The step of `invdiff train` itself, on latents and prompts that have a tenth against them."""

    def __init__(
        self,
        denoiser: Denoiser,
        latents: Tensor,
        prompts: Sequence[str],
        batch: int,
        team: Team | None = None,
    ) -> None:
        adapter.add_lora(denoiser.module, RANK, seed=0)
        config = configuration.preset("faces")
        # Not validated: a batch of 1 is too small to train with, and all that theirs has room for.
        section = config.train.model_copy(update={"batch_size": batch, "rank": RANK})
        against = (np.random.default_rng(0).random(len(latents)) < RARE).astype(float)
        caption, known = np.array(prompts), tuple(sorted(set(prompts)))
        names = np.arange(len(latents)).astype(str)
        mixture = Mixture(latents, caption, caption, against, known, known, names)
        config = config.model_copy(update={"train": section})
        self.trainer = Trainer(config, denoiser, mixture, team=team)
        self.steps = 0
        self.held = ExitStack()
        self.held.enter_context(prepared(denoiser.module, config))

    def __call__(self) -> float:
        """One step; returns its loss."""
        told = self.trainer.step(self.steps)
        self.steps += 1
        return told["loss"]


def target_of(scheduler: Any, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """What the network is trained to predict."""
    if scheduler.config.prediction_type == "v_prediction":
        velocity: Tensor = scheduler.get_velocity(latents, noise, timestep)
        return velocity
    return noise


def finished(optimiser: torch.optim.Optimizer, trained: Sequence[Tensor], loss: Tensor) -> float:
    """Backward pass, clipping at 1 and the optimiser's step; returns the loss."""
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()
    return loss.item()


def batches(count: int, batch: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Row numbers of endless random batches."""
    draw = np.random.default_rng(seed)
    while True:
        yield draw.integers(count, size=batch)


def bytes_of(tensors: Any) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(tensors, Tensor):
        return tensors.numel() * tensors.element_size()
    if isinstance(tensors, dict):
        return sum(bytes_of(value) for value in tensors.values())
    if isinstance(tensors, list | tuple):
        return sum(bytes_of(value) for value in tensors)
    return 0
