"""Training steps: time, peak memory and what is written, ours beside two others."""

from functools import partial
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from benchmarks import clock
from benchmarks.recipes import RANK, Encoders, Ours, PlainLora, Theirs, batches, bytes_of
from invdiff.core.schedule import Schedule
from invdiff.data.sets import faces
from invdiff.engine.architecture import published
from invdiff.engine.models import ModelRef, hushed, load_pipeline
from invdiff.engine.prompts import encode_known
from invdiff.model import adapter
from invdiff.model.denoiser import from_pipeline

FACES = ModelRef("faces", "cpu", "float32")
SIDES = ("theirs", "plain lora", "ours")
BATCH, EPOCHS = 32, 10
SD_GIGABYTES = {"theirs": 20, "plain lora": 7, "ours": 7}


def small(quick: bool) -> dict[str, Any]:
    """The embedded model, batch 32: images/s with and without the encoders in the step."""
    steps = {name: SmallStep(name) for name in SIDES}
    timings = clock.interleaved(steps, 3 if quick else 24, warm=1 if quick else 8)
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


class SmallStep:
    """One step of a recipe on batches of the embedded pictures."""

    def __init__(self, side: str, pictures: int = 512) -> None:
        with hushed():
            pipeline = load_pipeline(FACES)
        torch.manual_seed(0)
        samples = faces.samples(from_pipeline(pipeline).image_size)
        pixels = torch.from_numpy(samples.pictures(list(range(pictures)))).permute(0, 3, 1, 2)
        self.rows = batches(pictures, BATCH)
        self.inputs: tuple[torch.Tensor, torch.Tensor]
        self.encoders: Encoders | None = None
        self.step: Theirs | PlainLora | Ours
        unet = pipeline.unet
        if side == "ours":
            denoiser = from_pipeline(pipeline)
            prompts = list(samples.prompt[:pictures])
            hidden = encode_known(denoiser, prompts)(prompts, torch.device("cpu")).tensors["hidden"]
            latents = denoiser.encode_images(samples.pictures(list(range(pictures))))
            self.inputs, self.step = (latents, hidden), Ours(unet, denoiser.schedule, latents)
            pipeline.vae = pipeline.text_encoder = None
            return
        tokens = pipeline.tokenizer(
            list(samples.prompt[:pictures]),
            padding="max_length",
            max_length=pipeline.tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.inputs = (pixels / 127.5 - 1, tokens)
        self.encoders = Encoders(pipeline.vae, pipeline.text_encoder)
        self.step = (Theirs if side == "theirs" else PlainLora)(unet, scheduler)

    def __call__(self) -> float:
        """One step; returns its loss."""
        rows = torch.from_numpy(next(self.rows))
        first, second = (each[rows] for each in self.inputs)
        if self.encoders is not None:
            first, second = self.encoders(first, second)
        return self.step(first, second)


def run_small(side: str, steps: int) -> float:
    """A few steps, in a process of its own."""
    step = SmallStep(side)
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


def run_real(side: str, steps: int) -> dict[str, float]:
    """Seconds of steps at the real shape, after one that is not counted."""
    torch.manual_seed(0)
    unet = real_unet()
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    latents, hidden = torch.randn(1, 4, 32, 32), torch.randn(1, 77, 768)
    step: Theirs | PlainLora | Ours
    if side == "ours":
        schedule = Schedule(scheduler.alphas_cumprod.float(), "epsilon")
        step = Ours(unet, schedule, torch.randn(64, 4, 32, 32))
    else:
        step = (Theirs if side == "theirs" else PlainLora)(unet, scheduler)
    return clock.interleaved({"": partial(step, latents, hidden)}, steps)[""].record()


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
