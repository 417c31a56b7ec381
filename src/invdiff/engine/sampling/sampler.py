"""Drawing pictures through the stock pipeline, with or without the guidance.

Picture k of a prompt belongs to its seed alone: base and guided pictures share it, and
``pipe(prompt, generator=torch.Generator().manual_seed(seed), ...)`` draws it anywhere else, but for
its safety checker and watermark, which are left out here, and for samplers that add noise on their
way where the pipeline keeps the seed from them (SD3, Flux): here that noise is the seed's too.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from invdiff.engine.base_model.conditions import encode_known
from invdiff.engine.base_model.loading import Source, require_finite, resolve
from invdiff.engine.base_model.offloading import drawing
from invdiff.engine.distributed import randomness
from invdiff.engine.settings.schema import Config
from invdiff.model.denoiser import as_drawn, denoiser_module, seeded
from invdiff.model.guidance.attach import attached, within_window
from invdiff.model.guidance.hook import FULL
from invdiff.model.lora.adapter import switched_on


def seed_of(seed: int, prompt: str, index: int) -> int:
    """The seed of picture ``index`` of a prompt; below 2^31, so that it fits every tool."""
    return randomness.derive(seed, "picture", prompt, index) % 2**31


@dataclass(frozen=True)
class Sampler:
    """How a set of pictures is drawn; without an ``adapter`` folder by the model as it is.

    That is the base model, or while it is trained the one with the adapter that it carries, at
    ``strength`` and in the ``window`` if that is not everywhere.
    """

    source: Source
    adapter: Path | None
    strength: float
    window: tuple[float, float]
    scale: float
    steps: int

    @classmethod
    def of(
        cls, config: Config, source: Source, adapter: Path | None, strength: float, scale: float
    ) -> Self:
        """One with the window and the steps of the run's samples."""
        start, stop = config.sample.window
        return cls(source, adapter, strength, (start, stop), scale, config.sample.steps)

    def pictures(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
        """uint8 pictures (n, height, width, 3)."""
        drawn = torch.as_tensor(self._draw(prompts, seeds, "np"))
        require_finite(drawn, "generated pictures", resolve(self.source))
        return (drawn.numpy() * 255).round().astype(np.uint8)

    def latents(self, prompts: list[str], seeds: list[int]) -> torch.Tensor:
        """Scaled latents (n, channels, height, width) on the CPU."""
        denoiser = resolve(self.source)
        drawn = denoiser.unpack_latents(self._draw(prompts, seeds, "latent")).float().cpu()
        return require_finite(drawn, "generated latents", denoiser)

    @torch.no_grad()
    def _draw(self, prompts: list[str], seeds: list[int], kind: Literal["np", "latent"]) -> Any:
        denoiser = resolve(self.source)
        known = encode_known(denoiser, prompts)
        pipeline = drawing(denoiser, decode=kind == "np")
        own, null = (known(p, pipeline.device) for p in (prompts, [""] * len(prompts)))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with self._guidance(pipeline), as_drawn(pipeline), seeded(pipeline, generators):
            return pipeline(
                generator=generators,
                num_inference_steps=self.steps,
                output_type=kind,
                **denoiser.conditioned_kwargs(own, null, self.scale),
            ).images

    def _guidance(self, pipeline: Any) -> AbstractContextManager[Any]:
        if self.adapter is None:
            live = self.window != FULL and switched_on(denoiser_module(pipeline))
            return within_window(pipeline, self.strength, self.window) if live else nullcontext()
        return attached(pipeline, self.adapter, strength=self.strength, window=self.window)
