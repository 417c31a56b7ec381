"""What training writes while it works: one JSON line a step, the same to trackers, and previews."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from invdiff.engine.distributed.team import Team
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.settings.schema import Config
from invdiff.engine.storage.files import plain, write_text, write_with
from invdiff.engine.training.checks import MidTrainingCheck
from invdiff.errors import MissingExtra
from invdiff.model.denoiser import Denoiser
from invdiff.model.lora import adapter

FILE = "training-log.jsonl"
PROMPTS, PICTURES = 4, 4
SIDE = 128  # pixels of a picture in the grid, at most

Write = Callable[[int, Mapping[str, float]], object]
"""Takes in the numbers of one step."""


class Log:
    """All places that the log goes to; closed at the end of a ``with`` block.

    Lines from ``start`` on are of a session that was interrupted after its last checkpoint: those
    steps are done again, and so are their lines.

    Raises:
        MissingExtra: a tracker is not installed.
    """

    def __init__(self, run: Path, trackers: Sequence[str], start: int) -> None:
        self.run, self._open = run, ExitStack()
        makers = [_lines, *(TRACKERS[name] for name in trackers)]
        self._places = [make(run, start, self._open) for make in makers]

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers of one step everywhere."""
        for place in self._places:
            place(step, numbers)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()


def _lines(run: Path, start: int, opened: ExitStack) -> Write:
    """A file with one JSON object a step."""
    path = run / FILE
    write_text(path, "".join(f"{line}\n" for line in _before(path, start)))
    file = opened.enter_context(path.open("a", encoding="utf-8", buffering=1))
    return lambda step, numbers: file.write(json.dumps(plain({"step": step, **numbers})) + "\n")


def _before(path: Path, start: int) -> list[str]:
    """The whole lines of the steps before ``start``."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = []
    for line in lines:
        try:
            if json.loads(line)["step"] < start:
                kept.append(line)
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            continue
    return kept


def _tensorboard(run: Path, start: int, opened: ExitStack) -> Write:
    kind = _needed("torch.utils.tensorboard", "tensorboard").SummaryWriter
    # purge_step: what an interrupted session wrote of later steps is not shown
    writer = kind(str(run / "tensorboard"), purge_step=start or None)
    opened.callback(writer.close)
    return lambda step, numbers: [
        writer.add_scalar(f"train/{name}", value, step) for name, value in numbers.items()
    ]


def _wandb(run: Path, start: int, opened: ExitStack) -> Write:
    """One run of Weights & Biases for one run folder; WANDB_MODE says whether it is uploaded."""
    wandb = _needed("wandb", "wandb")
    writer = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "invdiff"),
        id=hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16],
        name=run.name,
        dir=str(run),
        resume="allow",
        settings=wandb.Settings(silent=True),
    )
    opened.callback(writer.finish)
    return lambda step, numbers: writer.log(
        {f"train/{name}": value for name, value in numbers.items()}, step=step
    )


TRACKERS: dict[str, Callable[[Path, int, ExitStack], Write]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}


def _needed(module: str, library: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtra(library, "trackers") from None


@dataclass(frozen=True)
class Previews:
    """Grids with the same seeds every time: pictures of the base above, of the guided model below.

    The base's are drawn once.
    """

    config: Config
    denoiser: Denoiser
    check: MidTrainingCheck
    folder: Path
    team: Team

    def draw(self, step: int) -> None:
        """The grid of the network as it is, as ``step-<n>.png``; not if asked to stop meanwhile."""
        base = self.folder / "base.png"
        if not base.is_file():
            with adapter.disabled(self.denoiser.module):
                self._write(base, self._pictures())
        pictures = self._pictures()
        if base.is_file():
            path = self.folder / f"step-{step:07d}.png"
            self._write(path, [np.asarray(Image.open(base)), *pictures])

    def _write(self, path: Path, rows: list[np.ndarray]) -> None:
        if not self.team.stop.asked:
            write_with(path, Image.fromarray(np.concatenate(rows)).save)

    def _pictures(self) -> list[np.ndarray]:
        """One row of pictures, prompt by prompt: uint8 (height, width, 3), alone in a list."""
        scale = self.config.calibrate.guidance_scale
        sampler = Sampler.of(self.config, self.denoiser, None, 1.0, scale)
        row: list[np.ndarray] = []
        for prompt in sorted(self.check.captions)[:PROMPTS]:
            if self.team.stop.asked:
                break
            captions = self.check.captions[prompt]
            texts = [captions[k % len(captions)] for k in range(PICTURES)]
            seeds = [seed_of(self.config.seed, f"preview {prompt}", k) for k in range(PICTURES)]
            row += map(_small, sampler.pictures(texts, seeds))
        return [np.concatenate(row, axis=1)] if row else []


def _small(picture: np.ndarray) -> np.ndarray:
    side = min(SIDE, picture.shape[0])
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))
