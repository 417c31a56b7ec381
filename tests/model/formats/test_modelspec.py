"""The header of an exported LoRA: what user interfaces show and choose by."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from invdiff.model.formats.modelspec import (
    Facts,
    architecture_of,
    content_hash,
    header,
)
from invdiff.model.sizing import description
from invdiff.model.sizing.description import Component, Description
from tests.model import tiny
from tests.model.tiny_pipelines import flux, sdxl


def facts(**changes):
    told = {"title": "Faces", "description": "A LoRA.", "strength": 0.75, "window": (0.3, 1.0)}
    return Facts(**told | {"scale": 2.5, "audit": "report.html", "date": "2026-01-02"} | changes)


def described(pipeline, denoiser, scheduler=None, **config):
    parts = {
        "unet" if "UNet" in denoiser else "transformer": Component("diffusers", denoiser, config)
    }
    if scheduler:
        parts["scheduler"] = Component("diffusers", "DDIMScheduler", scheduler)
    return Description(pipeline, parts, "a test")


V, EPSILON = {"prediction_type": "v_prediction"}, {"prediction_type": "epsilon"}


@pytest.mark.parametrize(
    ("base", "architecture"),
    [
        (
            described("StableDiffusionPipeline", "UNet2DConditionModel", cross_attention_dim=768),
            "stable-diffusion-v1",
        ),
        (
            described(
                "StableDiffusionPipeline", "UNet2DConditionModel", V, cross_attention_dim=1024
            ),
            "stable-diffusion-v2-768-v",
        ),
        (
            described(
                "StableDiffusionPipeline", "UNet2DConditionModel", EPSILON, cross_attention_dim=1024
            ),
            "stable-diffusion-v2-512",
        ),
        (
            described("StableDiffusionXLPipeline", "UNet2DConditionModel"),
            "stable-diffusion-xl-v1-base",
        ),
        (described("StableDiffusion3Pipeline", "SD3Transformer2DModel"), "stable-diffusion-3"),
        (described("FluxPipeline", "FluxTransformer2DModel", guidance_embeds=True), "flux-1-dev"),
        (
            described("FluxPipeline", "FluxTransformer2DModel", guidance_embeds=False),
            "flux-1-schnell",
        ),
        (described("SanaPipeline", "SanaTransformer2DModel"), "sana"),
    ],
)
def test_architectures(base, architecture):
    assert architecture_of(base)[0] == architecture


def test_every_key_of_the_header():
    weights = {"b": torch.arange(4.0), "a": torch.ones(2, 2, dtype=torch.bfloat16)}
    base = description.of_pipeline(tiny.pipeline())
    found = header(facts(), base, weights, rank=4)
    digest = found.pop("modelspec.hash_sha256")
    assert found == {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "Faces",
        "modelspec.description": "A LoRA.",
        "modelspec.date": "2026-01-02",
        "modelspec.usage_hint": "Recommended weight 1 (adapter strength 0.75) at noise levels 0.3 "
        "to 1 (0 = clean, 1 = pure noise), calibrated at guidance scale 2.5. "
        "Bias audit: report.html",
        "modelspec.timestep_range": "300,1000",
        "modelspec.resolution": "16x16",
        "modelspec.prediction_type": "v",
        "modelspec.tags": "invdiff, bias mitigation",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "4.0",
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
    }
    raw = weights["b"].numpy().tobytes() + weights["a"].view(torch.uint8).numpy().tobytes()
    assert digest == f"0x{hashlib.sha256(raw).hexdigest()}"


def test_the_whole_schedule_and_an_unknown_scale_are_told_shortly():
    hint = facts(window=(0.0, 1.0), scale=None, strength=1.0).usage_hint
    told = "Recommended weight 1 (adapter strength 1) at all noise levels. Bias audit: report.html"
    assert hint == told


def test_the_hash_is_of_the_content_alone():
    one = {"a": torch.ones(2), "b": torch.zeros(2)}
    assert content_hash(one) == content_hash(dict(reversed(one.items())))
    assert content_hash(one) != content_hash({"a": torch.zeros(2), "b": torch.ones(2)})


@pytest.mark.parametrize(("make", "size"), [(tiny.pipeline, 16), (sdxl, 16), (flux, 256)])
def test_a_pipeline_is_described_alike_from_memory_and_from_the_disk(make, size, tmp_path):
    pipe = make()
    pipe.save_pretrained(tmp_path)
    loaded, saved = description.of_pipeline(pipe), description.of_folder(tmp_path)
    assert loaded.pipeline == saved.pipeline == type(pipe).__name__
    assert loaded.component == saved.component
    assert loaded.denoiser.kind == saved.denoiser.kind
    assert loaded.image_size == saved.image_size == size
    assert loaded.scheduler["num_train_timesteps"] == saved.scheduler["num_train_timesteps"]
    assert {k for k in saved.parts if "tokenizer" not in k} == set(loaded.parts)


def as_a1111_reads(head):
    """Its `NetworkOnDisk.detect_version`, in our words: which base a LoRA is offered for."""
    if head.get("ss_base_model_version", "").startswith("sdxl_"):
        return "SDXL"
    return "SD2" if head.get("ss_v2") == "True" else "SD1"


def as_forge_reads(head):
    """Forge's: the implementation, then two architectures, then what A1111 goes by."""
    architecture = head.get("modelspec.architecture")
    flux = head.get("modelspec.implementation") == "https://github.com/black-forest-labs/flux"
    if flux or architecture == "flux-1-dev/lora":
        return "Flux"
    known = {"stable-diffusion-xl-v1-base/lora": "SDXL", "stable-diffusion-v1/lora": "SD1"}
    asked = as_a1111_reads(head)
    return asked if asked != "SD1" else known.get(architecture, "Unknown")


UNET, FLUX = "UNet2DConditionModel", "FluxTransformer2DModel"
BASES = {
    "SD1": described("StableDiffusionPipeline", UNET, EPSILON, cross_attention_dim=768),
    "SD2": described("StableDiffusionPipeline", UNET, EPSILON, cross_attention_dim=1024),
    "SD2, v": described("StableDiffusionPipeline", UNET, V, cross_attention_dim=1024),
    "SDXL": described("StableDiffusionXLPipeline", UNET, EPSILON, cross_attention_dim=2048),
    "Flux, dev": described("FluxPipeline", FLUX, guidance_embeds=True),
    "Flux, schnell": described("FluxPipeline", FLUX, guidance_embeds=False),
}


@pytest.mark.parametrize("key", ["unet.x.lora_A.weight", "lora_unet_x.lora_down.weight"])
@pytest.mark.parametrize("base", BASES)
def test_user_interfaces_offer_the_file_for_its_own_base(base, key):
    """A1111 offered an SD 2 file for SD 1 and hid it for SD 2; Forge took schnell for unknown."""
    head = header(facts(), BASES[base], {key: torch.ones(2, 2)}, rank=2)
    if not base.startswith("Flux"):  # which A1111 does not run
        assert as_a1111_reads(head) == base[:4].rstrip(",")
    assert as_forge_reads(head) == base.partition(",")[0]


NAMED = {
    "sd15": "stable-diffusion-v1",
    "sdxl": "stable-diffusion-xl-v1-base",
    "sd3": "stable-diffusion-3",
    "flux": "flux-1-dev",
    "chroma": "chroma",
    # musubi-tuner's `sai_model_spec.py`
    "flux2_dev": "Flux.2-dev",
    "flux2_klein_4b": "Flux.2-klein-4b",
    "flux2_klein_9b": "Flux.2-klein-9b",
    "qwen_image": "Qwen-Image",
    "z_image": "Z-Image",
}


def test_published_models_have_the_names_of_their_architectures():
    known = [path.name.removesuffix(".json") for path in description.ARCHITECTURES.iterdir()]
    assert {name: architecture_of(description.shipped(name))[0] for name in known} == NAMED


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_hash_is_that_of_the_file_after_its_header(dtype, tmp_path):
    """Alphas are float32: in a half-precision file they come first, whatever they are called."""
    weights = {
        "b.alpha": torch.tensor(4.0),
        "a.lora_down.weight": torch.randn(4, 3).to(dtype),
        "b.lora_down.weight": torch.randn(4, 3).to(dtype),
    }
    save_file(
        weights, tmp_path / "f.safetensors", metadata=header(facts(), BASES["SD1"], weights, 4)
    )
    raw = (tmp_path / "f.safetensors").read_bytes()
    body = raw[8 + int.from_bytes(raw[:8], "little") :]
    told = json.loads(raw[8 : len(raw) - len(body)])["__metadata__"]["modelspec.hash_sha256"]
    assert told == "0x" + hashlib.sha256(body).hexdigest()
