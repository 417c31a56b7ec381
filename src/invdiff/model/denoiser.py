"""The door through which the method sees a text-to-image model.

The method needs a denoiser, a noise schedule, a prompt encoder and latents, and nothing else. One
file a family under ``families`` gives them; the method never asks which family it has.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch

from invdiff.core.schedule import Schedule
from invdiff.errors import ModelError


class Denoiser(Protocol):
    """A frozen pretrained text-to-image model, seen through four doors.

    ``pipeline`` is the stock diffusers pipeline, ``module`` its network (adapters attach there), a
    torch module that knows its ``device`` and ``dtype``, as those of diffusers do.
    """

    pipeline: Any
    module: Any
    schedule: Schedule
    image_size: int

    def encode_images(self, pictures: np.ndarray) -> torch.Tensor:
        """Scaled latents (n, channels, height, width) of uint8 pictures (n, size, size, 3)."""

    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Conditions (n, tokens, width); the empty prompt is the null prompt."""

    def meaning(self, prompts: Sequence[str]) -> torch.Tensor:
        """One vector a prompt (n, width), float32: alike for prompts that mean alike."""

    def predict(
        self, noisy_latent: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """The prediction of ``module`` at integer timesteps (n,), shaped like the latent."""

    def bottleneck(self) -> AbstractContextManager[list[torch.Tensor]]:
        """Within it, each prediction appends its pooled bottleneck features (n, width)."""


def from_pipeline(pipeline: Any) -> Denoiser:
    """The denoiser of a loaded diffusers pipeline; the error names what is supported."""
    from invdiff.model.families import FAMILIES

    for classes, family in FAMILIES:
        if type(pipeline).__name__ in classes:
            return family()(pipeline)
    supported = sorted(name for classes, _ in FAMILIES for name in classes)
    raise ModelError(
        f"{type(pipeline).__name__} is not supported; load the model as one of: "
        + ", ".join(supported)
    )
