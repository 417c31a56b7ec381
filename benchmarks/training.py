"""Training steps: time, peak memory and what is written, ours beside two others."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks import clock, shapes
from benchmarks.recipes import RANK, Encoders, Ours, PlainLora, Theirs, batches, bytes_of
from benchmarks.shapes import TOKENS, WIDTH, WithoutEncoders, World
from invdiff.engine.distributed.team import Team
from invdiff.engine.training.min_step import REGRET_EVERY as ROUND
from invdiff.model.lora import adapter

SIDES = ("theirs", "plain lora", "ours")
EPOCHS = 10
WORLDS: dict[str, Callable[[], World]] = {
    "SD 1.4, half of its widths": shapes.half_of_sd,
    "the embedded model": shapes.embedded_model,
}
SD_GIGABYTES = {"theirs": 20, "plain lora": 7, "ours": 7}

Step = Callable[[], float]
"""One training step; returns its loss."""


def small(quick: bool) -> dict[str, Any]:
    """Steps with the encoders in them, and ours with caches made once for 10 epochs."""
    return {"sides": {name: _compared(make, quick) for name, make in WORLDS.items()}}


def _compared(make: Callable[[], World], quick: bool) -> dict[str, Any]:
    count = 2 if quick else 5
    worlds = {name: make() for name in SIDES}
    batch = worlds["ours"].batch
    rounds: dict[str, Callable[[], Any]] = {
        name: Rounds(step_of(name, world)) for name, world in worlds.items()
    }
    timings = {name: t.shared(ROUND) for name, t in clock.interleaved(rounds, count).items()}
    encode = Encoded(make())
    cache = clock.interleaved({"": encode}, count)[""]
    ours = timings["ours"].median + cache.median / EPOCHS
    rows = {
        name: {
            "seconds a step": timing.record(),
            "images/s": round(batch / timing.median, 1),
            "peak bytes": clock.alone(run_steps, make, name, 2)[1],
        }
        for name, timing in timings.items()
    }
    return {
        **rows,
        "caches, seconds a batch": cache.record(),
        "theirs / ours, caches counted": round(timings["theirs"].median / ours, 3),
        "plain lora / ours, caches counted": round(timings["plain lora"].median / ours, 3),
    }


class Rounds:
    """As many steps as ours takes between two looks at the group risks, so that one is counted."""

    def __init__(self, step: Step, count: int = ROUND) -> None:
        self.step, self.count = step, count

    def __call__(self) -> None:
        """One round."""
        for _ in range(self.count):
            self.step()


class Encoded:
    """Latents and hidden states of random batches, by the encoders."""

    def __init__(self, world: World) -> None:
        assert world.vae is not None, "nobody has taken it"
        assert world.text_encoder is not None, "nobody has taken it"
        self.encoders = Encoders(world.vae, world.text_encoder)
        self.pixels = torch.from_numpy(world.pictures).permute(0, 3, 1, 2) / 127.5 - 1
        self.tokens = world.tokens
        self.rows = batches(len(world.prompts), world.batch)

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch."""
        rows = torch.from_numpy(next(self.rows))
        return self.encoders(self.pixels[rows], self.tokens[rows])


def step_of(side: str, world: World, team: Team | None = None) -> Step:
    """A step of a recipe; those of the others encode their batch first."""
    denoiser = world.denoiser
    if side == "ours":
        latents = denoiser.encode_images(world.pictures)
        step = Ours(denoiser, latents, world.prompts, world.batch, team)
        # What `invdiff train` does not have in memory either.
        world.vae = world.text_encoder = denoiser.pipeline.vae = denoiser.pipeline.text_encoder = (
            None
        )
        return step
    recipe = (Theirs if side == "theirs" else PlainLora)(denoiser.module, world.scheduler)
    encoded = Encoded(world)
    return lambda: recipe(*encoded())


def run_steps(make: Callable[[], World], side: str, steps: int) -> float:
    """A few steps, in a process of its own."""
    step = step_of(side, make())
    return [step() for _ in range(steps)][-1]


def real_shape(quick: bool) -> dict[str, Any]:
    """The SD 1.4 UNet with random weights, 32 x 32 latents, batch 1, each side on its own."""
    rows: dict[str, Any] = {}
    for side in SIDES:
        need = SD_GIGABYTES[side] * 10**9
        if clock.free_bytes() < need:
            rows[side] = {"not measured": f"needs {need / 1e9:.0f} GB of free memory"}
            continue
        seconds, peak = clock.alone(run_real, side, 1 if quick else 3)
        rows[side] = {"seconds a step": seconds, "peak bytes": peak}
    if any("not measured" in rows[side] for side in ("theirs", "ours")):
        return {"sides": rows}
    theirs, ours = rows["theirs"], rows["ours"]
    seconds = theirs["seconds a step"]["median"] / ours["seconds a step"]["median"]
    memory = ours["peak bytes"] / theirs["peak bytes"]
    ratios = {"theirs / ours, seconds": round(seconds, 3), "ours / theirs, peak": round(memory, 3)}
    return {"sides": rows, **ratios}


def run_real(side: str, steps: int) -> dict[str, float]:
    """Seconds of a step at the real shape, as the means of rounds, after one that is not counted.

    A round of ours looks at the group risks once; a step of theirs takes too long for rounds.
    """
    torch.manual_seed(0)
    unet, scheduler = shapes.unet_of(), shapes.sd_scheduler()
    step: Step
    if side == "ours":
        latents, prompts = torch.randn(64, 4, 32, 32), ["a prompt"] * 64
        step = Ours(WithoutEncoders(unet, scheduler), latents, prompts, batch=1)
    else:
        inputs = torch.randn(1, 4, 32, 32), torch.randn(1, TOKENS, WIDTH)
        step = partial((Theirs if side == "theirs" else PlainLora)(unet, scheduler), *inputs)
    count = ROUND if side == "ours" else 1
    return clock.interleaved({"": Rounds(step, count)}, steps)[""].shared(count).record()


def checkpoints(quick: bool) -> dict[str, Any]:
    """Bytes at the SD 1.4 shape: theirs keep base, copy and Adam's two moments of the copy."""
    with torch.device("meta"):
        unet = shapes.unet_of()
    full = bytes_of(dict(unet.named_parameters()))
    adapter.add_lora(unet, RANK, seed=0)
    lora = bytes_of(adapter.parameters(unet))
    theirs, moments = 4 * full, 2 * lora
    return {
        "theirs": theirs,
        "adapter": lora,
        "resumable state": lora + moments,
        "adapter / theirs": round(lora / theirs, 6),
    }
