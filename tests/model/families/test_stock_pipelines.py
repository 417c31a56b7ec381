"""Against the stock pipelines, which know nothing of ours: predictions, latents and noising.

A pipeline is run as anybody runs it, while its scheduler notes what it is handed. Given the same
latent, timestep, prompts and scale, our denoiser must say the same.
"""

import diffusers
import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from invdiff.core.diffusion.schedule import add_noise
from invdiff.model.families import transformers
from invdiff.model.families.registry import from_pipeline
from invdiff.model.families.transformers import packed, unpacked
from tests.model import tiny
from tests.model import tiny_families as families

PROMPTS = ["a hat", "a coat, seen from afar"]
SCALE = 3.5
NAMES = list(families.BUILDERS)
RUNS = [(name, {}) for name in NAMES] + [("flux", {"guidance_embeds": False})]
TOLD = {"flux", "flux2"}
"""Distilled: the network is told the scale."""
# Pipelines that start from a picture, of the families that have one.
FROM_PICTURES = {
    "sd-epsilon": "StableDiffusionImg2ImgPipeline",
    "sd-v": "StableDiffusionImg2ImgPipeline",
    "sdxl": "StableDiffusionXLImg2ImgPipeline",
    "sd3": "StableDiffusion3Img2ImgPipeline",
    "flux": "FluxImg2ImgPipeline",
    "qwen-image": "QwenImageImg2ImgPipeline",
    "z-image": "ZImageImg2ImgPipeline",
    "chroma": "ChromaImg2ImgPipeline",
}
EQUAL_STEPS = [1.0, 0.75, 0.5, 0.25]


def as_maps(pipe, values):
    """Latents (n, channels, rows, columns) of a pipeline's own, by its own code."""
    if values.ndim == 5:  # a film of one frame
        return values.squeeze(2 if values.shape[2] == 1 else 1)
    if values.ndim == 4:
        return values
    side = round(values.shape[1] ** 0.5)
    size = side * 2 * pipe.vae_scale_factor
    if "Flux2" in type(pipe).__name__:
        places = pipe._prepare_latent_ids(torch.empty(len(values), 1, side, side))
        return pipe._unpatchify_latents(pipe._unpack_latents_with_ids(values, places))
    return as_maps(pipe, pipe._unpack_latents(values, size, size, pipe.vae_scale_factor))


def handed_over(model, scale):
    """(prediction, timestep, latent) of each step, as the pipeline tells its scheduler.

    Then the latents that the last step leaves, and those that the pipeline gives.
    """
    pipe, seen, left = model.pipeline, [], []
    original = pipe.scheduler.step

    def step(said, timestep, latent, *args, **options):
        seen.append((as_maps(pipe, said), timestep, as_maps(pipe, latent)))
        left[:] = original(said, timestep, latent, *args, **options)[:1]
        return (*left,)

    pipe.scheduler.step = step
    options = model.guidance_kwargs(scale) | {"num_inference_steps": 3, "output_type": "latent"}
    drawn = pipe(prompt=list(PROMPTS), generator=tiny.seeds(2), **options).images
    del pipe.scheduler.step
    return seen, as_maps(pipe, *left), drawn


def guided(name, own, null, scale):
    """What the pipeline makes of the two predictions at a scale, by its documentation."""
    mixed = null + scale * (own - null)
    if name != "qwen-image":
        return mixed
    lengths = [packed(one).norm(dim=-1, keepdim=True) for one in (own, mixed)]
    return unpacked(packed(mixed) * lengths[0] / lengths[1], (own.shape[2] // 2,) * 2)


@pytest.mark.parametrize("scale", [1.0, SCALE])
@pytest.mark.parametrize(("name", "options"), RUNS, ids=str)
def test_what_the_pipeline_hands_its_scheduler_is_predicted(name, options, scale, monkeypatch):
    """With prompts of unlike lengths, at every step and its own timestep."""
    model = from_pipeline(families.pipeline(name, **options))
    told = name in TOLD and not options
    seen, last, drawn = handed_over(model, scale)
    torch.testing.assert_close(model.unpack_latents(drawn), last, rtol=1e-4, atol=1e-5)
    if told:
        monkeypatch.setattr(transformers, "UNGUIDED", scale)
    own, null = model.encode_prompts(PROMPTS), model.encode_prompts(["", ""])
    assert not torch.allclose(own.tensors["hidden"].mean(1), null.tensors["hidden"].mean(1))
    for said, timestep, latent in seen:
        when = timestep.expand(2)
        with torch.no_grad():
            found = model.predict(latent, when, own)
            if scale > 1 and not told:
                found = guided(name, found, model.predict(latent, when, null), scale)
        torch.testing.assert_close(found, said.float(), rtol=1e-4, atol=2e-5)
    assert len(seen) == 3


@pytest.mark.parametrize("name", FROM_PICTURES)
def test_latents_and_noised_latents_are_those_of_the_pipeline(name, monkeypatch):
    """Of the same pictures and the same noise, noted where the pipeline's scheduler adds it."""
    model, seen = from_pipeline(families.pipeline(name)), []
    parts = dict(model.pipeline.components)
    steps = {"num_inference_steps": 4}
    if model.flow_only:
        parts["scheduler"] = FlowMatchEulerDiscreteScheduler()
        steps["sigmas"] = EQUAL_STEPS
    noising = "scale_noise" if model.flow_only else "add_noise"
    original = getattr(parts["scheduler"], noising)

    def noised(clean, *rest):
        by_name = dict(
            zip(("timestep", "noise")[:: 1 if model.flow_only else -1], rest, strict=True)
        )
        seen.append((clean, by_name, original(clean, *rest)))
        return seen[-1][2]

    monkeypatch.setattr(parts["scheduler"], noising, noised)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, *_: self.mode())
    extra = {"requires_safety_checker": False} if name.startswith("sd-") else {}
    pipe = getattr(diffusers, FROM_PICTURES[name])(**parts, **extra)
    pipe.set_progress_bar_config(disable=True)
    size = model.image_size
    shown = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    images = [Image.fromarray(one) for one in shown]
    sides = {} if name.startswith("sd-") or name == "sdxl" else {"height": size, "width": size}
    pipe(prompt=PROMPTS, image=images, strength=0.5, **steps, **sides)
    (clean, told, noisy), *_ = seen
    timestep = told["timestep"].expand(2)
    assert torch.equal(timestep, timestep.round())
    ours = model.encode_images(shown)
    torch.testing.assert_close(ours, as_maps(pipe, clean), rtol=1e-4, atol=1e-5)
    found = add_noise(model.schedule, ours, as_maps(pipe, told["noise"]), timestep.long())
    torch.testing.assert_close(found, as_maps(pipe, noisy), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(FROM_PICTURES)))
def test_without_such_a_pipeline_the_scheduler_itself_is_asked(name):
    model = from_pipeline(families.pipeline(name))
    scheduler = model.pipeline.scheduler
    scheduler.set_timesteps(4, **({"mu": 0.0} if name.startswith("flux2") else {}))
    clean, noise = torch.randn(2, 2, 4, 8, 8)
    when = scheduler.timesteps[1:3]
    noised = getattr(scheduler, "add_noise", None) or (
        lambda z, n, t: scheduler.scale_noise(z, t, n)
    )
    found = add_noise(model.schedule, clean, noise, when.round().long())
    torch.testing.assert_close(found, noised(clean, noise, when), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["flux2", "flux2-klein"])
def test_latents_of_flux2_are_those_of_a_picture_that_it_is_given(name):
    model = from_pipeline(families.pipeline(name))
    size = model.image_size
    shown = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    pixels = torch.from_numpy(shown).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        theirs = model.pipeline._unpatchify_latents(model.pipeline._encode_vae_image(pixels, None))
    ours = model.encode_images(shown)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
