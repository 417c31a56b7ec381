"""The door through which the method sees a text-to-image model.

The method needs a denoiser, a noise schedule, a prompt encoder and latents, and nothing else. The
classes in ``families`` give them; the method never asks which family it has.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from invdiff.core.diffusion.schedule import Schedule
from invdiff.errors import ModelError
from invdiff.model.texts import Reader


@dataclass(frozen=True)
class Condition:
    """Conditions of n pictures: ``tensors`` by name, the first axis of each is the picture.

    Families name what they need: hidden states of the text encoders, a pooled embedding, a mask.
    All conditions of one denoiser have the same names, and the same shapes but for the first axis;
    where prompts keep as many tokens as they have, the second axis too, and a mask tells of it.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Sequence[int] | Tensor) -> Self:
        """The conditions of some pictures; to repeat a row, name it twice."""
        return type(self)({name: tensor[rows] for name, tensor in self.tensors.items()})

    def expand(self, count: int) -> Self:
        """A single condition, for ``count`` pictures."""
        return type(self)({name: t.expand(count, *t.shape[1:]) for name, t in self.tensors.items()})

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return type(self)({name: tensor.to(device) for name, tensor in self.tensors.items()})

    @classmethod
    def cat(cls, parts: Sequence["Condition"]) -> Self:
        """The conditions of the pictures of all parts in their order; zeros fill the shorter up."""
        names = parts[0].tensors
        return cls({name: _joined([part.tensors[name] for part in parts]) for name in names})


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """One after the other, the second axis as long as the longest."""
    if len({tensor.shape[1:2] for tensor in tensors}) > 1:
        longest = max(tensor.shape[1] for tensor in tensors)
        tensors = [
            pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, longest - tensor.shape[1]))
            for tensor in tensors
        ]
    return torch.cat(list(tensors))


class Denoiser(Protocol):
    """A frozen pretrained text-to-image model.

    ``pipeline`` is the stock diffusers pipeline, ``module`` its network (adapters attach there), a
    torch module that knows its ``device`` and ``dtype``, as those of diffusers do. Pictures are
    ``image_size`` pixels a side; ``reader`` tells what is cut off of texts.
    """

    schedule: Schedule
    image_size: int
    reader: Reader | None

    @property
    def latents_by_autoencoder(self) -> bool:
        """Whether the pipeline needs its autoencoder to give latents, too."""

    @property
    def pipeline(self) -> Any:
        """The stock pipeline."""

    @property
    def module(self) -> Any:
        """Its network."""

    def encode_images(self, pictures: np.ndarray) -> Tensor:
        """Scaled latents (n, channels, height, width) of uint8 pictures (n, size, size, 3)."""

    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Conditions as the pipeline's own call makes them.

        The empty prompt is the null prompt: what the pipeline compares with in classifier-free
        guidance when it is given no negative prompt.
        """

    def text_embedding(self, prompts: Sequence[str]) -> Tensor:
        """One vector a prompt (n, width), float32: alike for prompts that mean alike."""

    def predict(self, noisy_latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """The prediction at integer timesteps (n,) of ``schedule``, shaped like the latent.

        Takes and gives float32, whatever the precision of ``module``.
        """

    def bottleneck(self) -> AbstractContextManager[list[Tensor]]:
        """Within it, each prediction appends its pooled bottleneck features (n, width)."""

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """Arguments of the pipeline's own call: size, and what it calls the guidance scale.

        Scale 1 is without guidance. ModelError for a scale that the pipeline would not heed.
        """

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """The same with the prompts of n pictures.

        Conditions, in the place of texts, are those of
        :meth:`encode_prompts`; ``null`` is the null prompt, n times.
        """

    def unpack_latents(self, drawn: Tensor) -> Tensor:
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


@contextmanager
def seeded(pipe: Any, generators: list[torch.Generator]) -> Iterator[None]:
    """Within it the noise that a sampler adds on its way comes from the pictures' own seeds.

    The pipelines of SD3 and Flux do not hand their generators on to the scheduler.
    """
    scheduler = getattr(pipe, "scheduler", None)
    if scheduler is None or "generator" not in signature(scheduler.step).parameters:
        yield
        return
    scheduler.step = partial(scheduler.step, generator=generators)
    try:
        yield
    finally:
        del scheduler.step


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
