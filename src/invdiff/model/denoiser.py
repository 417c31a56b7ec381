"""The door through which the method sees a text-to-image model.

The method needs a denoiser, a noise schedule, a prompt encoder and latents, and nothing else. One
file a family under ``families`` gives them; the method never asks which family it has.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from invdiff.core.diffusion.schedule import Schedule
from invdiff.errors import ModelError
from invdiff.model.condition import Condition


class Denoiser(Protocol):
    """A frozen pretrained text-to-image model.

    ``pipeline`` is the stock diffusers pipeline, ``module`` its network (adapters attach there), a
    torch module that knows its ``device`` and ``dtype``, as those of diffusers do. Pictures are
    ``image_size`` pixels a side.
    """

    schedule: Schedule
    image_size: int

    @property
    def pipeline(self) -> Any:
        """The stock pipeline."""

    @property
    def module(self) -> Any:
        """Its network."""

    def encode_images(self, pictures: np.ndarray) -> torch.Tensor:
        """Scaled latents (n, channels, height, width) of uint8 pictures (n, size, size, 3)."""

    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Conditions as the pipeline's own call makes them.

        The empty prompt is the null prompt: what the pipeline compares with in classifier-free
        guidance when it is given no negative prompt.
        """

    def text_embedding(self, prompts: Sequence[str]) -> torch.Tensor:
        """One vector a prompt (n, width), float32: alike for prompts that mean alike."""

    def predict(
        self, noisy_latent: torch.Tensor, timestep: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """The prediction at integer timesteps (n,) of ``schedule``, shaped like the latent.

        Takes and gives float32, whatever the precision of ``module``.
        """

    def bottleneck(self) -> AbstractContextManager[list[torch.Tensor]]:
        """Within it, each prediction appends its pooled bottleneck features (n, width)."""

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """Arguments of the pipeline's own call that mean guidance scale ``scale``, size included.

        1 is without guidance.
        """

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """`call_options`, and the prompts of n pictures as conditions instead of texts.

        Conditions are those of :meth:`encode_prompts`; ``null`` is the null prompt, n times.
        """

    def unpack_latents(self, drawn: torch.Tensor) -> torch.Tensor:
        """Latents (n, channels, height, width) of those that the pipeline's own call gives."""


@contextmanager
def as_drawn(pipe: Any) -> Iterator[None]:
    """Within it a pipeline of diffusers gives its pictures as they are drawn.

    A safety checker blackens what it flags and a watermark writes into every picture: both would
    be counted as what the model draws.
    """
    kept = {
        part: vars(pipe)[part] for part in ("safety_checker", "watermark") if part in vars(pipe)
    }
    vars(pipe).update(dict.fromkeys(kept))
    try:
        yield
    finally:
        vars(pipe).update(kept)


def denoiser_module(pipe: Any) -> nn.Module:
    """The network that a diffusers pipeline denoises with. Raises ModelError without one."""
    for name in ("unet", "transformer"):
        module = getattr(pipe, name, None)
        if isinstance(module, nn.Module):
            inner = getattr(module, "_orig_mod", module)  # torch.compile wraps the network
            assert isinstance(inner, nn.Module)
            return inner
    raise ModelError(
        f"{type(pipe).__name__} has no unet and no transformer; pass a diffusers pipeline"
    )
