"""One resumable training loop, shared by everything that pretraining fits, and its numbers."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from invdiff.engine.storage import checkpoint
from invdiff.terminal import Bar


@dataclass(frozen=True)
class Recipe:
    """How a small latent text-to-image model of the Stable Diffusion classes is made.

    Sizes are for 32 x 32 pictures on one CPU thread. The loss is taken on v: with the usual
    epsilon loss a small model does not even learn the bias of its data.

    ``start`` names a built-in set: autoencoder and UNet then begin with the weights of its base
    model. The prompt encoder always begins anew, since each set has its own vocabulary.
    """

    start: str = ""
    seed: int = 0
    batch: int = 32
    save_every: int = 250

    latent_channels: int = 4
    autoencoder_channels: tuple[int, ...] = (24, 48, 64)
    autoencoder_steps: int = 2000
    autoencoder_rate: float = 2e-3
    kl_weight: float = 1e-4
    l1_weight: float = 0.1

    text_width: int = 64
    text_layers: int = 2
    text_length: int = 16

    denoiser_channels: tuple[int, ...] = (64, 112)
    denoiser_steps: int = 8000
    denoiser_rate: float = 1e-3
    prompt_dropout: float = 0.10
    ema_decay: float = 0.999

    classifier_steps: int = 1500
    classifier_rate: float = 2e-3

    def facts(self) -> dict[str, Any]:
        """The numbers as JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def cosine(step: int, total: int, warmup: int = 100) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def fit(
    name: str,
    folder: Path,
    modules: dict[str, torch.nn.Module],
    loss_of: Callable[[int], torch.Tensor],
    *,
    steps: int,
    rate: float,
    save_every: int,
    after_step: Callable[[int], None] = lambda _: None,
    frozen: tuple[str, ...] = (),
) -> list[float]:
    """Minimise ``loss_of(step)`` over the parameters of ``modules``; returns the loss curve.

    Modules named in ``frozen`` are saved with the others but not trained (an average of weights,
    say); ``after_step`` gets the number of steps done. A call after an interruption goes on from
    the newest valid checkpoint in ``folder``.
    """
    trained = [p for n, m in modules.items() if n not in frozen for p in m.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=1e-2)
    curve: list[float] = []
    start, before, begun = 0, 0.0, time.monotonic()
    found = checkpoint.newest(folder)
    if found is not None:
        checkpoint.unpack(found[0], optimiser=optimiser, **modules)
        start, curve = found[1]["step"], found[1]["curve"]
        before = found[1].get("seconds", 0.0)
    for step in Bar(range(start, steps), desc=name, initial=start, total=steps, unit="step"):
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine(step, steps)
        loss = loss_of(step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        after_step(step + 1)
        curve.append(round(loss.item(), 6))
        if (step + 1) % save_every == 0 or step + 1 == steps:
            tensors = checkpoint.pack(optimiser=optimiser, **modules)
            seconds = before + time.monotonic() - begun
            checkpoint.save_checkpoint(
                folder, step + 1, tensors, {"curve": curve, "seconds": seconds}
            )
    return curve


def seconds_of(folder: Path) -> int:
    """How long the training in ``folder`` took, over all interruptions."""
    found = checkpoint.newest(folder)
    return round(found[1].get("seconds", 0.0)) if found else 0
