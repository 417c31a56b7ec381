"""A model of which only the parts at work are in memory.

Autoencoder and text encoders are large (most of Flux is its T5) and have nothing to do while the
denoiser works. They are loaded when they are asked for and dropped at the denoiser's next pass.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any, Literal

import numpy as np
from torch import Tensor

from invdiff.core.diffusion.schedule import Schedule
from invdiff.engine.base_model.conditions import Store
from invdiff.errors import refused
from invdiff.model.denoiser import Condition, Denoiser

Group = Literal["pictures", "prompts", "denoiser"]
GROUPS: dict[Group, tuple[str, ...]] = {
    "pictures": ("vae", "safety_checker", "image_encoder"),
    "prompts": ("text_encoder", "text_encoder_2", "text_encoder_3"),
    "denoiser": ("unet", "transformer"),
}
Load = Callable[[Group | None], Denoiser]
"""The denoiser with the networks of one group alone; None: with no network but all settings."""


class Offloading:
    """The :class:`~invdiff.model.denoiser.Denoiser` of parts that ``load`` gives when needed.

    Conditions of prompts are taken from ``store`` where they are there: each prompt is encoded
    once.
    """

    def __init__(self, load: Load, store: Store) -> None:
        self._load, self.store = load, store
        self.held: dict[Group, Denoiser] = {}  # what is in memory
        self.settings = load(None)  # for what needs no network
        self.schedule: Schedule = self.settings.schedule
        self.image_size: int = self.settings.image_size
        self.reader = self.settings.reader
        self.latents_by_autoencoder = self.settings.latents_by_autoencoder
        self.guidance_kwargs = self.settings.guidance_kwargs
        self.conditioned_kwargs = self.settings.conditioned_kwargs

    @classmethod
    def of(cls, denoiser: Denoiser, store: Store) -> "Offloading":
        """A pipeline that was loaded by somebody else: all its parts stay where they are."""
        return cls(lambda _: denoiser, store)

    @property
    def module(self) -> Any:
        """The network that denoises."""
        return self._part("denoiser").module

    @property
    def pipeline(self) -> Any:
        """The stock pipeline with all it needs to draw pictures, for prompts that are encoded."""
        return self.drawing(decode=True)

    def drawing(self, decode: bool) -> Any:
        """The stock pipeline to draw latents with, or with ``decode`` pictures."""
        pipeline = self._part("denoiser").pipeline
        if not decode and not self.settings.latents_by_autoencoder:
            self._drop("pictures")
        elif pipeline is not (source := self._part("pictures").pipeline):
            _lend(source, pipeline)
        self._drop("prompts")
        return pipeline

    def encode_images(self, pictures: np.ndarray) -> Tensor:
        """Scaled latents, by the autoencoder."""
        self._drop("prompts")
        return self._part("pictures").encode_images(pictures)

    def unpack_latents(self, drawn: Tensor) -> Tensor:
        """Latents of the pipeline's own; the autoencoder is there if they were drawn with it."""
        return self.held.get("pictures", self.settings).unpack_latents(drawn)

    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Conditions from the store; those that are not there yet are encoded together."""
        missing = self.store.missing(prompts)
        if missing:
            self._drop("pictures")
            self.store.put(missing, self._part("prompts").encode_prompts(missing).to("cpu"))
        return self.store.get(prompts)

    def text_embedding(self, prompts: Sequence[str]) -> Tensor:
        """What prompts mean to the text encoders."""
        self._drop("pictures")
        return self._part("prompts").text_embedding(prompts)

    def predict(self, noisy_latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """One pass of the network, alone in memory."""
        self._drop("pictures")
        self._drop("prompts")
        return self._part("denoiser").predict(noisy_latent, timestep, condition)

    def bottleneck(self) -> AbstractContextManager[list[Tensor]]:
        """Pooled bottleneck features of each prediction within it."""
        return self._part("denoiser").bottleneck()

    def _part(self, group: Group) -> Denoiser:
        if group not in self.held:
            self.held[group] = self._load(group)
        return self.held[group]

    def _drop(self, group: Group) -> None:
        dropped, kept = self.held.pop(group, None), self.held.get("denoiser")
        if group == "pictures" and dropped and kept and dropped is not kept:
            _lend(None, kept.pipeline)


def drawing(denoiser: Denoiser, decode: bool) -> Any:
    """The stock pipeline of any denoiser, to draw latents with, or with ``decode`` pictures."""
    return denoiser.drawing(decode) if isinstance(denoiser, Offloading) else denoiser.pipeline


def require_drawable(denoiser: Denoiser, steps: int, scales: Iterable[float] = ()) -> None:
    """ModelError if the model does not draw in so many steps (PNDM needs four) or at a scale."""
    known = denoiser.settings if isinstance(denoiser, Offloading) else denoiser
    for scale in scales:
        known.guidance_kwargs(scale)
    scheduler = deepcopy(known.pipeline.scheduler)
    shift = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting") else {}
    what = f"the scheduler {type(scheduler).__name__} takes no {steps} steps"
    with refused(what, "set the number of steps (sample.steps) to another"):
        scheduler.set_timesteps(steps, **shift)


def _lend(source: Any | None, pipeline: Any) -> None:
    """Put the parts for pictures into another pipeline, or take them out of it."""
    for name in GROUPS["pictures"]:
        if name in pipeline.config:
            setattr(pipeline, name, getattr(source, name, None))
