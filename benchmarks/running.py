"""The frozen model at work: sampling, discovery against bare passes, one process against two."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks import clock
from benchmarks.shapes import FACES
from invdiff.core.diffusion.schedule import add_noise
from invdiff.engine.base_model.loading import load_pipeline, resolve
from invdiff.engine.discovery.passes import Features, Score
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.storage.hashed_tensors import SHARD
from invdiff.model.lora import adapter, adapter_file

PROMPT = "a person wearing a hat"
LEVELS, DRAWS, BATCH = (0.98, 0.94, 0.88, 0.75, 0.5), 2, 64
ARMS = {"base": None, "strength 1": 1.0, "strength 0.5": 0.5}


def sampling(quick: bool) -> dict[str, Any]:
    """Batches of 64 pictures of the embedded model, 20 steps, guidance scale 2.5."""
    count, steps = (4, 2) if quick else (64, 20)
    with TemporaryDirectory() as folder:
        save_adapter(Path(folder))
        sides = {name: partial(draw, Path(folder), name, count, steps) for name in ARMS}
        timings = clock.interleaved(sides, 2 if quick else 7)
        peaks = {
            name: clock.alone(draw, Path(folder), name, count, 1)[1]
            for name in ("base", "strength 1")
        }
    return {
        "sides": {
            name: {
                "seconds a batch": timing.record(),
                "pictures/s": round(count / timing.median, 2),
                **({"peak bytes": peaks[name]} if name in peaks else {}),
            }
            for name, timing in timings.items()
        },
        "strength 1 / base": clock.ratio(timings, "strength 1", "base"),
        "strength 0.5 / base": clock.ratio(timings, "strength 0.5", "base"),
    }


def save_adapter(folder: Path) -> None:
    """An adapter for the embedded model that changes something."""
    unet = load_pipeline(FACES).unet
    adapter.add_lora(unet, 8, seed=0)
    draw = torch.Generator().manual_seed(0)
    for tensor in adapter.parameters(unet):
        tensor.data += 1e-3 * torch.randn(tensor.shape, generator=draw)
    adapter_file.save(unet, folder, {})


def draw(folder: Path, arm: str, count: int, steps: int) -> None:
    """One batch of pictures."""
    strength = ARMS[arm]
    where, window = folder if strength else None, (0.0, 1.0)
    sampler = Sampler(FACES, where, strength or 0.0, window, 2.5, steps)
    sampler.pictures([PROMPT] * count, [seed_of(0, PROMPT, k) for k in range(count)])


def discovery(quick: bool) -> dict[str, Any]:
    """The passes of discovery beside as many bare calls of the network on batches as large."""
    count = 32 if quick else 2 * BATCH
    latents = torch.randn(count, *latent_shape(), generator=torch.Generator().manual_seed(0))
    prompts = [PROMPT] * count
    levels = LEVELS[:2] if quick else LEVELS
    score = Score(FACES, 0, levels, DRAWS, BATCH)
    features = Features(FACES, 0, levels, 1, BATCH)
    sides: dict[str, Callable[[], Any]] = {
        "scoring": lambda: score((latents, prompts)),
        "bare, for scoring": partial(bare, latents, 2 * DRAWS * len(levels), doubled=True),
        "features": lambda: features(latents),
        "bare, for features": partial(bare, latents, len(levels), doubled=False),
    }
    timings = clock.interleaved(sides, 2 if quick else 9)
    return {
        "sides": {name: {"seconds": timing.record()} for name, timing in timings.items()},
        "speed of scoring / bare": clock.ratio(timings, "bare, for scoring", "scoring"),
        "speed of features / bare": clock.ratio(timings, "bare, for features", "features"),
    }


def latent_shape() -> tuple[int, int, int]:
    """Shape of a latent of the embedded model."""
    config = resolve(FACES).module.config
    return config.in_channels, config.sample_size, config.sample_size


@torch.no_grad()
def bare(latents: torch.Tensor, passes: int, doubled: bool) -> None:
    """As many forward passes a latent, and nothing else; ``doubled``: two conditions a call."""
    denoiser = resolve(FACES)
    batch = latents[:BATCH].repeat(2, 1, 1, 1) if doubled else latents[:BATCH]
    hidden = denoiser.encode_prompts([PROMPT]).tensors["hidden"].expand(len(batch), -1, -1)
    timestep = torch.full((len(batch),), 900)
    noisy = add_noise(denoiser.schedule, batch, torch.randn_like(batch), timestep)
    for _ in range(round(passes * len(latents) / len(batch))):
        denoiser.module(noisy, timestep, hidden, return_dict=False)


def processes(quick: bool) -> dict[str, Any]:
    """One process against two, each with one thread, starting them not counted."""
    shards, size = (2, 4) if quick else (8, SHARD // 2)
    latents = torch.randn(size, *latent_shape(), generator=torch.Generator().manual_seed(0))
    score = Score(FACES, 0, LEVELS, DRAWS, BATCH)
    drawing = Sampler(FACES, None, 0.0, (0.0, 1.0), 2.5, 2 if quick else 20)
    work: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
        "scoring": (score, [(latents, [PROMPT] * size)] * shards),
        "sampling": (Pictures(drawing), [list(range(min(size, 32)))] * shards),
    }
    measured = {name: partial(spread, *each) for name, each in work.items()}
    rows: dict[str, Any] = {}
    for name, run in measured.items():
        seconds: dict[str, list[float]] = {"1": [], "2": []}
        for _ in range(1 if quick else 3):
            for side, taken in seconds.items():
                taken.append(run(int(side)))
        timings = {side: clock.Timing.of(values) for side, values in seconds.items()}
        rows[name] = {
            **{f"{side} processes, seconds": each.record() for side, each in timings.items()},
            "1 / 2": clock.ratio(timings, "1", "2"),
        }
    return {"sides": rows}


class Pictures:
    """Draws the pictures of some numbers (a class, so that it can be pickled)."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def __call__(self, numbers: list[int]) -> np.ndarray:
        """uint8 pictures."""
        seeds = [seed_of(0, PROMPT, k) for k in numbers]
        return self.sampler.pictures([PROMPT] * len(seeds), seeds)


class Timed:
    """``work``, telling when it began and ended; the first call of a process is not counted."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, shard: Any) -> tuple[float, float]:
        """Begin and end on the clock that all processes share."""
        begun = time.time()
        self.work(shard)
        return begun, time.time()


def spread(work: Callable[[Any], Any], shards: list[Any], processes: int) -> float:
    """Seconds that the shards take once every process has done one."""
    every = [shards[0]] * processes + shards
    done = [
        span
        for _, span in run_shards(
            Timed(work), every, processes=processes, title=f"{processes} processes", quiet=True
        )
    ]
    done.sort()
    return max(end for _, end in done) - done[processes][0]
