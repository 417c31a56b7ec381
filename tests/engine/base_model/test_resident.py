"""While the denoiser works, neither autoencoder nor text encoder is in memory."""

import gc
import weakref

import numpy as np
import pytest
import torch

from invdiff.engine.base_model import loading
from invdiff.engine.base_model.cache_keys import fingerprint
from invdiff.engine.base_model.loading import ModelRef
from invdiff.engine.sampling.sampler import Sampler
from tests import tiny_world

HAT = "a hat"


@pytest.fixture
def resident(world, tmp_path):
    loading._load.cache_clear()
    yield loading.resolve(
        ModelRef(str(world.model), "cpu", "float32", conditions=str(tmp_path / "prompts"))
    )
    loading._load.cache_clear()


def predict(model):
    latent, timestep = torch.zeros(1, *LATENT), torch.tensor([900])
    return model.predict(latent, timestep, model.encode_prompts([HAT]))


LATENT = (4, 8, 8)


def test_nothing_is_loaded_before_it_is_asked_for(resident):
    assert not resident.held
    assert resident.image_size == 16
    assert resident.schedule.timesteps > 0
    assert not resident.held


def test_each_part_goes_when_the_denoiser_works(resident):
    resident.encode_images(np.zeros((1, 16, 16, 3), np.uint8))
    assert list(resident.held) == ["pictures"]
    vae = weakref.ref(resident.held["pictures"].pipeline.vae)
    resident.encode_prompts([HAT])
    assert list(resident.held) == ["prompts"]
    predict(resident)
    assert list(resident.held) == ["denoiser"]
    gc.collect()
    assert vae() is None
    parts = resident.held["denoiser"].pipeline.components
    assert parts["vae"] is None
    assert parts["text_encoder"] is None


def test_the_denoiser_stays_while_others_come_and_go(resident):
    predict(resident)
    module = resident.module
    resident.encode_images(np.zeros((1, 16, 16, 3), np.uint8))
    resident.encode_prompts(["a coat"])
    assert resident.module is module


def test_it_computes_what_the_whole_pipeline_does(world, resident):
    whole = loading.from_pipeline(
        loading.load_pipeline(ModelRef(str(world.model), "cpu", "float32"))
    )
    picture = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3)).astype(np.uint8)
    assert torch.equal(resident.encode_images(picture), whole.encode_images(picture))
    assert torch.equal(predict(resident), predict(whole))
    assert torch.equal(resident.text_embedding([HAT]), whole.text_embedding([HAT]))
    drawn = [
        Sampler(each, None, 0.0, (0.0, 1.0), 2.5, 2).pictures([HAT] * 2, [1, 2])
        for each in (resident, whole)
    ]
    assert np.array_equal(*drawn)


def test_pictures_are_drawn_without_the_text_encoder(resident):
    sampler = Sampler(resident, None, 0.0, (0.0, 1.0), 1.0, 2)
    first = sampler.pictures([HAT], [1])
    assert list(resident.held) == ["denoiser", "pictures"]
    sampler.latents([HAT], [1])
    assert list(resident.held) == ["denoiser"]
    assert np.array_equal(sampler.pictures([HAT], [1]), first)


def test_a_prompt_is_encoded_once(resident, monkeypatch):
    encoded = []
    load = resident._load

    def monitored(group):
        model = load(group)
        if group == "prompts":
            original = model.encode_prompts
            model.encode_prompts = lambda texts: encoded.extend(texts) or original(texts)
        return model

    monkeypatch.setattr(resident, "_load", monitored)
    sampler = Sampler(resident, None, 0.0, (0.0, 1.0), 2.5, 2)
    for seed in range(3):
        sampler.latents([HAT, HAT, "a coat"], [seed, seed + 1, seed + 2])
    assert sorted(encoded) == ["", "a coat", HAT]


def test_other_weights_under_the_same_path_are_told_apart(tmp_path):
    folder = tiny_world.save_pipeline(tmp_path / "model")
    before = fingerprint(folder, ["vae"]), fingerprint(folder, ["unet"])
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    changed = tiny_world.tensors(weights)
    tiny_world.save_tensors(weights, {name: value + 1 for name, value in changed.items()})
    assert fingerprint(folder, ["vae"]) != before[0]
    assert fingerprint(folder, ["unet"]) == before[1]
