"""A checkpoint in one file: described by its header, drawn with, and run, without a connection."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from invdiff.app.cli import main
from invdiff.engine.base_model import loading
from invdiff.engine.base_model.architecture import describe
from invdiff.engine.base_model.loading import ModelRef, load_pipeline, resolve, weights_of
from invdiff.engine.base_model.single_file import clip_words
from invdiff.engine.preflight import doctor
from invdiff.engine.settings import config as configuration
from invdiff.errors import ModelError
from invdiff.model.sizing import single_file
from invdiff.model.sizing.description import shipped
from tests import tiny_world
from tests.model import original_names


@pytest.fixture(scope="module")
def source():
    return original_names.pipeline()


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    """A pipeline of SDXL's shape, and its file."""
    path = tmp_path_factory.mktemp("xl") / "model.safetensors"
    made = original_names.pipeline(xl=True)
    original_names.save(made, path)
    return made, path


@pytest.fixture(scope="module")
def file(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("single") / "model.safetensors"
    original_names.save(source, path)
    return path


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loading._load.cache_clear()
    yield
    loading._load.cache_clear()


def test_the_words_of_clip_have_their_published_numbers():
    words = clip_words("<|endoftext|>")
    assert len(words) == 49408
    assert words("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def require_same_weights(pipe, made, names):
    """Those of ``made``, which the file holds in float16."""
    for name in names:
        ours, theirs = (getattr(each, name).state_dict() for each in (pipe, made))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key].half().float()) for key in theirs)


def test_the_weights_are_those_of_the_pipeline_it_was_made_of(source, file):
    pipe = load_pipeline(ModelRef(str(file), "cpu", "float32"))
    assert type(pipe) is type(source)
    require_same_weights(pipe, source, ("unet", "vae", "text_encoder"))
    assert pipe.scheduler.config.beta_schedule == "scaled_linear"


def test_it_is_described_by_its_header(source, file):
    base = describe(str(file))
    assert base.pipeline == "StableDiffusionPipeline"
    assert base.image_size == 512
    assert base.denoiser.config["block_out_channels"] == [32, 64, 64, 64]
    assert base.parts["text_encoder"].config["num_hidden_layers"] == 12
    config = configuration.load({"model": {"path": str(file), "device": "cpu"}})
    found = doctor.examine(config)
    assert found.problems == []
    sizes = {
        name: getattr(source, name).num_parameters() for name in base.parts if name != "scheduler"
    }
    assert dict(found.estimate.parameters) == sizes


def test_sdxl_comes_with_both_its_text_encoders(xl):
    made, path = xl
    pipe = load_pipeline(ModelRef(str(path), "cpu", "float32"))
    assert type(pipe) is type(made)
    require_same_weights(pipe, made, ("unet", "text_encoder", "text_encoder_2"))
    assert pipe.scheduler.config.prediction_type == "epsilon"
    assert pipe.tokenizer_2("a").input_ids == [49406, 320, 49407]
    assert (pipe.tokenizer.pad_token_id, pipe.tokenizer_2.pad_token_id) == (49407, 0)
    save_file(load_file(path) | {"v_pred": torch.ones(1)}, path, {"format": "pt"})
    assert describe(str(path)).scheduler["prediction_type"] == "v_prediction"


def test_parts_are_loaded_one_at_a_time(file):
    model = resolve(ModelRef(str(file), "cpu", "float32"))
    latents = model.encode_images(np.full((1, 64, 64, 3), 77, np.uint8))
    with torch.no_grad():
        said = model.predict(latents, torch.tensor([300]), model.encode_prompts(["a hat"]))
    assert said.shape == (1, 4, 8, 8)
    assert list(model.held) == ["denoiser"]
    name = weights_of(ModelRef(str(file), "cpu", "float32"), "denoiser")
    assert len(name) == 16


OTHERS = {
    "a LoRA and no model": lambda known: {"lora_unet_x.lora_down.weight": torch.ones(2, 2)},
    "no denoiser of Stable Diffusion, no autoencoder, no text": lambda known: {
        "double_blocks.0.img_attn.qkv.weight": torch.ones(2, 2)
    },
    "no autoencoder": lambda known: {k: v for k, v in known.items() if "first_stage" not in k},
    "no text encoder of Stable": lambda known: {k: v for k, v in known.items() if "cond_" not in k},
}


@pytest.mark.parametrize("told", OTHERS)
def test_other_files_are_refused_with_what_they_are_and_the_next_step(file, told, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file(OTHERS[told](load_file(file)), path, {"format": "pt"})
    refused(path, told)


def test_a_file_for_inpainting_is_refused(file, tmp_path):
    path = tmp_path / "inpainting.safetensors"
    first = {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(32, 9, 3, 3)}
    save_file(load_file(file) | first, path, {"format": "pt"})
    with pytest.raises(ModelError, match="takes 9 channels and a latent has 4"):
        load_pipeline(ModelRef(str(path), "cpu", "float32"))


@pytest.mark.parametrize("content", [b"", b"GGUF" * 100, b"PK\x03\x04"])
def test_what_is_no_safetensors_is_refused(content, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    refused(path, "no whole file of safetensors")


def refused(path, told):
    with pytest.raises(ModelError, match=rf"{told}.*diffusers format, or make one") as error:
        load_pipeline(ModelRef(str(path), "cpu", "float32"))
    assert "\n" not in str(error.value)
    config = configuration.load({"model": {"path": str(path), "device": "cpu"}})
    (problem,) = doctor.examine(config).problems
    assert str(path) in problem


def smaller(name):
    """The published description, of a model for pictures of 128 pixels."""
    base = shipped(name)
    unet = replace(base.parts["unet"], config={**base.parts["unet"].config, "sample_size": 16})
    return replace(base, parts={**base.parts, "unet": unet})


def test_doctor_dry_run_and_run_take_it(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(single_file, "shipped", smaller)
    data = tiny_world.pictures(tmp_path / "data", share=0.75, count=6)
    told = [
        "model.path=FILE", "model.device=cpu", "model.dtype=float32", "data.path=DATA",
        "data.image_size=64", "data.label_column=colour", "data.min_images=6",
        "discover.estimator=labels", "discover.images_per_prompt=6", "discover.levels=[0.9]",
        "train.steps=2", "train.batch_size=2", "train.rank=2", "train.share_feedback=[]",
        "sample.steps=1", "calibrate.images_per_prompt=1", "calibrate.strengths=[1.0]",
        "sample.images_per_prompt=1", "sample.guidance_scales=[1.0]", "calibrate.guidance_scale=1",
        "study.feature_levels=[0.3]", "processes=1",
    ]  # fmt: skip
    words = [one.replace("FILE", str(file)).replace("DATA", str(data)) for one in told]
    options = [
        part for word in words for part in (f"--{word.partition('=')[0]}", word.partition("=")[2])
    ]
    options += ["--preset", "sd15"]
    assert main(["doctor", *options]) == 0
    assert main(["run", *options, "--out", str(tmp_path / "run"), "--dry-run"]) == 0
    assert not (tmp_path / "run").exists()
    assert "model.safetensors" in capsys.readouterr().out
    assert main(["run", *options, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "adapter" / "pytorch_lora_weights.safetensors").is_file()
    assert len(list((tmp_path / "run").rglob("samples/**/*.png"))) == 4
