"""Pictures during training: those of the base above, those of the guided model below."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from invdiff.engine.distributed.team import Team
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.settings.config import Config
from invdiff.engine.storage.files import write_with
from invdiff.engine.training.share_feedback import MidTrainingCheck
from invdiff.model.denoiser import Denoiser
from invdiff.model.lora import adapter

PROMPTS, PICTURES = 4, 4
SIDE = 128  # pixels of a picture in the grid, at most


@dataclass(frozen=True)
class Previews:
    """Grids with the same seeds every time; the base is drawn once."""

    config: Config
    denoiser: Denoiser
    feedback: MidTrainingCheck
    folder: Path
    team: Team

    def draw(self, step: int) -> None:
        """The grid of the network as it is, as ``step-<n>.png``; not if asked to stop meanwhile."""
        path = self.folder / f"step-{step:07d}.png"
        base = self.folder / "base.png"
        if not base.is_file():
            with adapter.disabled(self.denoiser.module):
                self._write(base, self._pictures())
        pictures = self._pictures()
        if base.is_file():
            self._write(path, [np.asarray(Image.open(base)), *pictures])

    def _write(self, path: Path, rows: list[np.ndarray]) -> None:
        if not self.team.stop.asked:
            write_with(path, Image.fromarray(np.concatenate(rows)).save)

    def _pictures(self) -> list[np.ndarray]:
        """One row of pictures, prompt by prompt: uint8 (height, width, 3), alone in a list."""
        scale, steps = self.config.calibrate.guidance_scale, self.config.sample.steps
        start, stop = self.config.sample.window
        sampler = Sampler(self.denoiser, None, 1.0, (start, stop), scale, steps)
        row: list[np.ndarray] = []
        for prompt in sorted(self.feedback.captions)[:PROMPTS]:
            if self.team.stop.asked:
                break
            captions = self.feedback.captions[prompt]
            texts = [captions[k % len(captions)] for k in range(PICTURES)]
            seeds = [seed_of(self.config.seed, f"preview {prompt}", k) for k in range(PICTURES)]
            row += map(_small, sampler.pictures(texts, seeds))
        return [np.concatenate(row, axis=1)] if row else []


def _small(picture: np.ndarray) -> np.ndarray:
    side = min(SIDE, picture.shape[0])
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))
