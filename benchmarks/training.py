"""Training steps: time, peak memory and what is written, ours beside two others."""

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from benchmarks import clock
from benchmarks.recipes import RANK, Encoders, Ours, PlainLora, Theirs, batches, bytes_of
from invdiff.data.sets import faces
from invdiff.engine.architecture import published
from invdiff.engine.models import ModelRef, hushed, load_pipeline
from invdiff.engine.training.objective import REGRET_EVERY as ROUND
from invdiff.engine.training.team import Team
from invdiff.model import adapter
from invdiff.model.condition import Condition
from invdiff.model.denoiser import from_pipeline
from invdiff.model.families.stable_diffusion import StableDiffusionDenoiser

FACES = ModelRef("faces", "cpu", "float32")
SIDES = ("theirs", "plain lora", "ours")
BATCH, EPOCHS = 32, 10
TOKENS, WIDTH = 77, 768  # of SD 1.4's conditions
Step = Callable[[], float]
"""One training step; returns its loss."""

SD_GIGABYTES = {"theirs": 20, "plain lora": 7, "ours": 7}


def small(quick: bool) -> dict[str, Any]:
    """The embedded model, batch 32: images/s with and without the encoders in the step."""
    rounds = {name: Rounds(small_step(name)) for name in SIDES}
    timings = {
        name: timing.shared(ROUND)
        for name, timing in clock.interleaved(rounds, 2 if quick else 7).items()
    }
    cache = clock.interleaved({"caches": partial(build_caches, BATCH)}, 2 if quick else 8)["caches"]
    ours = timings["ours"].median + cache.median / EPOCHS
    rows = {
        name: {
            "seconds a step": timing.record(),
            "images/s": round(BATCH / timing.median, 1),
            "peak bytes": clock.alone(run_small, name, 2)[1],
        }
        for name, timing in timings.items()
    }
    return {
        "sides": rows,
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


def small_step(side: str, pictures: int = 512, team: Team | None = None) -> Step:
    """A step of a recipe on batches of the embedded pictures."""
    with hushed():
        pipeline = load_pipeline(FACES)
    torch.manual_seed(0)
    denoiser = from_pipeline(pipeline)
    samples = faces.samples(denoiser.image_size)
    seen, prompts = samples.pictures(list(range(pictures))), list(samples.prompt[:pictures])
    if side == "ours":
        step = Ours(denoiser, denoiser.encode_images(seen), prompts, BATCH, team)
        pipeline.vae = pipeline.text_encoder = None
        return step
    tokens = pipeline.tokenizer(
        prompts,
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    pixels = torch.from_numpy(seen).permute(0, 3, 1, 2) / 127.5 - 1
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    encoders = Encoders(pipeline.vae, pipeline.text_encoder)
    other = (Theirs if side == "theirs" else PlainLora)(pipeline.unet, scheduler)
    rows = batches(pictures, BATCH)

    def encoded() -> float:
        batch = torch.from_numpy(next(rows))
        return other(*encoders(pixels[batch], tokens[batch]))

    return encoded


def run_small(side: str, steps: int) -> float:
    """A few steps, in a process of its own."""
    step = small_step(side)
    return [step() for _ in range(steps)][-1]


_ENCODERS: list[Any] = []


def build_caches(count: int) -> None:
    """Encode pictures as `discover` does; prompts are encoded once, which is next to nothing."""
    if not _ENCODERS:
        denoiser = from_pipeline(load_pipeline(FACES))
        pictures = faces.samples(denoiser.image_size).pictures(list(range(count)))
        _ENCODERS.extend((denoiser, pictures))
    denoiser, pictures = _ENCODERS
    denoiser.encode_images(pictures)


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
    return {"sides": rows, **_compared(rows)}


def _compared(rows: dict[str, Any]) -> dict[str, float]:
    if any("not measured" in rows[side] for side in ("theirs", "ours")):
        return {}
    theirs, ours = rows["theirs"], rows["ours"]
    seconds = theirs["seconds a step"]["median"] / ours["seconds a step"]["median"]
    memory = ours["peak bytes"] / theirs["peak bytes"]
    return {"theirs / ours, seconds": round(seconds, 3), "ours / theirs, peak": round(memory, 3)}


def real_unet() -> UNet2DConditionModel:
    """A UNet of the shape of SD 1.4 and 1.5, which is the same."""
    base = published("stable-diffusion-v1-5")
    assert base is not None, "the package knows SD 1.5"
    with hushed():
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(dict(base.denoiser.config))
    return unet


class WithoutEncoders(StableDiffusionDenoiser):
    """A UNet alone; its prompts have random conditions of the right shape."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDPMScheduler) -> None:
        super().__init__(SimpleNamespace(unet=unet, scheduler=scheduler, vae_scale_factor=8))

    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Hidden states that mean nothing."""
        return Condition({"hidden": torch.randn(len(prompts), TOKENS, WIDTH)})


def run_real(side: str, steps: int) -> dict[str, float]:
    """Seconds of a step at the real shape, as the means of rounds, after one that is not counted.

    A round of ours looks at the group risks once; a step of theirs takes too long for rounds.
    """
    torch.manual_seed(0)
    unet = real_unet()
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
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
        unet = real_unet()
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
