"""Memory and work of a configuration: parameters that are published, figures that add up."""

from functools import cache

import pytest
import torch

from invdiff.engine.base_model.architecture import describe, model_folder, published
from invdiff.engine.preflight import plan
from invdiff.engine.preflight.memory import TRAINING_BYTES, estimate_memory
from invdiff.engine.settings import config as configuration
from invdiff.model.lora import adapter
from invdiff.model.sizing.shapes import build
from tests.model import tiny

PARTS = ("train.gradient_accumulation_steps=8",)

# Numbers of parameters as the models' publishers and other tools state them.
PUBLISHED = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": {
        "unet": 859_520_964,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
    },
    "stabilityai/stable-diffusion-xl-base-1.0": {
        "unet": 2_567_463_684,
        "text_encoder_2": 694_659_840,
    },
    "stabilityai/stable-diffusion-3-medium-diffusers": {"text_encoder_3": 4_762_310_656},
    "black-forest-labs/FLUX.1-dev": {"transformer": 11_901_408_320},
    "Qwen/Qwen-Image": {
        "transformer": 20_430_401_088,
        "vae": 126_892_531,
        "text_encoder": 8_292_166_656,
    },
    "Tongyi-MAI/Z-Image-Turbo": {"transformer": 6_154_908_736, "text_encoder": 4_022_468_096},
    "black-forest-labs/FLUX.2-klein-9B": {"text_encoder": 8_190_735_360},
    "black-forest-labs/FLUX.2-dev": {"text_encoder": 24_011_361_280},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny.pipeline().save_pretrained(folder)
    return str(folder)


def settings(model, *overrides):
    return configuration.load({"model": {"path": model}}, overrides)


@cache
def estimated(model, *overrides):
    """What several tests compare with is estimated once."""
    return estimate_memory(settings(model, *overrides))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_size(name):
    base = published(name)
    for part, count in PUBLISHED[name].items():
        assert build(base.parts[part]).num_parameters() == count, part
    assert base.image_size == (512 if "v1-5" in name else 1024)


def test_weights_activations_and_adapter_add_up(model):
    pipe = tiny.pipeline()
    found = estimate_memory(settings(model, "train.rank=4", "train.batch_size=2"))
    assert found.parameters == {
        name: sum(each.numel() for each in getattr(pipe, name).parameters())
        for name in ("unet", "vae", "text_encoder")
    }
    adapter.add_lora(pipe.unet, 4, seed=0)
    assert found.adapter == sum(each.numel() for each in adapter.parameters(pipe.unet))
    least = 4 * sum(found.parameters.values()) + TRAINING_BYTES * found.adapter
    assert least < found.memory["train"] < 2 * least
    assert found.peak == max(found.memory.values())


def test_half_precision_larger_batches_and_guidance_tell(model):
    large = "discover.batch_size=500", "sample.batch_size=200", "train.batch_size=64"
    plain, more = estimated(model), estimated(model, *large)
    for stage, share in {"discover": 2, "sample": 1.2, "train": 1.3}.items():
        assert more.memory[stage] > share * plain.memory[stage], stage
    half = estimated(model, *large, "model.dtype=bfloat16")
    assert half.memory["sample"] < 0.6 * more.memory["sample"]
    unguided = estimated(model, *large, "sample.guidance_scales=[1.0]")
    assert unguided.memory["sample"] < more.memory["sample"]
    wide = estimated(model, "data.image_size=32")
    assert wide.operations > 3 * plain.operations
    assert wide.memory["sample"] == plain.memory["sample"]  # drawn at the model's own size


def test_checkpointing_and_parts_of_a_batch_take_less_memory_and_more_passes(model):
    large = settings(model, "train.batch_size=64")
    plain = estimate_memory(large)
    parts = estimate_memory(settings(model, "train.batch_size=64", *PARTS))
    assert parts.memory == estimated(model, "train.batch_size=8").memory
    again = settings(model, "train.batch_size=64", "train.gradient_checkpointing=true")
    kept = estimate_memory(again).memory
    assert kept["train"] < 0.9 * plain.memory["train"]
    assert kept["sample"] == plain.memory["sample"]
    size = plan.DataSize((100,) * 4)
    trained = large.train.steps * 64
    passes = [plan.work_plan(one, size)[1].passes for one in (large, again)]
    assert passes[1] - passes[0] == trained


def test_the_global_generator_is_left_alone(model):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    estimate_memory(settings(model))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_of_which_nothing_is_known_has_no_estimate():
    assert estimate_memory(settings("somebody/something")) is None
    assert estimate_memory(settings("./no/such/folder")) is None
    assert published("stabilityai/stable-diffusion-xl-refiner-1.0") is None


def test_where_a_configuration_comes_from(model, tmp_path, monkeypatch):
    assert describe("faces").source == "faces"
    assert describe(model).pipeline == "StableDiffusionPipeline"
    snapshot = tmp_path / "models--me--cached" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--me--cached" / "refs").mkdir()
    (tmp_path / "models--me--cached" / "refs" / "main").write_text("abc")
    (snapshot / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert model_folder("me/cached") == snapshot
    assert model_folder("me/other") is None


@pytest.mark.parametrize(
    ("name", "size", "scale", "parts"),
    [
        ("sd15", 512, 7.5, 1370),
        ("sdxl", 1024, 5.0, 3469),
        ("flux", 512, 3.5, 16871),
        ("z-image", 512, 5.0, 10261),
        ("qwen-image", 512, 4.0, 28849),
        ("flux2-klein", 512, 4.0, 7982),
        ("flux2-dev", 512, 4.0, 56319),
        ("chroma", 512, 3.0, 13746),
    ],
)
def test_presets_of_real_models_fit_one_gpu(name, size, scale, parts):
    config = configuration.preset(name)
    found = estimate_memory(config)
    assert (config.sample.guidance_scales, config.calibrate.guidance_scale) == ([scale], scale)
    assert (found.image_size, found.dtype) == (size, "bfloat16")
    assert round(sum(found.parameters.values()) / 1e6) == parts
    small = {"sd15": 24e9, "sdxl": 48e9, "z-image": 32e9, "flux2-klein": 24e9, "flux2-dev": 141e9}
    assert found.peak < small.get(name, 80e9)
    assert "as published" in found.source
