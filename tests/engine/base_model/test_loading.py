"""Loading a model: what is refused with one line, and what is kept from the screen."""

import errno
import json
import shutil
import subprocess
import sys

import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from invdiff.engine.base_model import loading
from invdiff.engine.base_model.loading import ModelRef, device_of, load_pipeline, resolve
from invdiff.errors import ModelError


def refusal(path, device="cpu"):
    with pytest.raises(ModelError) as told:
        resolve(ModelRef(str(path), device, "float32"))
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.fixture
def copied(world, tmp_path):
    return shutil.copytree(world.model, tmp_path / "model")


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("path", ["./nope", "/nope/deep", "~/nope-nope"])
def test_a_path_that_is_no_folder_is_not_asked_of_the_hub(path):
    assert f"model.path {path} is no folder" in refusal(path)


def test_a_misspelt_name_gets_the_nearest_one():
    assert refusal("facse").endswith("did you mean 'faces'?")


def test_a_folder_that_holds_no_pipeline(tmp_path):
    told = refusal(tmp_path)
    assert "model_index.json" in told
    assert "a folder in diffusers format" in told


def test_a_pipeline_class_that_does_not_exist(copied):
    rewrite(copied / "model_index.json", _class_name="NoSuchPipeline")
    assert "NoSuchPipeline" in refusal(copied)


def test_a_pipeline_class_that_is_not_supported(copied):
    rewrite(copied / "model_index.json", _class_name="StableDiffusionInpaintPipeline")
    told = refusal(copied)
    assert "StableDiffusionInpaintPipeline needs more than a prompt" in told
    assert "train with StableDiffusionPipeline" in told
    rewrite(copied / "model_index.json", _class_name="StableDiffusionSAGPipeline")
    told = refusal(copied)
    assert "StableDiffusionSAGPipeline is not supported" in told
    assert "one of: StableDiffusionPipeline, StableDiffusionXLPipeline" in told


def test_a_scheduler_that_predicts_something_else(copied):
    rewrite(copied / "scheduler" / "scheduler_config.json", prediction_type="flow")
    assert "predicts 'flow'" in refusal(copied)


@pytest.mark.parametrize(
    "part", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]
)
def test_weights_that_were_cut_off(copied, part):
    path = copied / part
    path.write_bytes(path.read_bytes()[:1000])
    assert f"{path} is damaged: give a whole copy of the model" in refusal(copied)


def test_a_full_disk_is_not_blamed_on_the_model(world, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "snapshots/unet")

    monkeypatch.setattr(loading, "_stock", full)
    with pytest.raises(OSError, match="No space left"):
        load_pipeline(ModelRef(str(world.model), "cpu", "float32"))


def test_home_is_understood(world, monkeypatch):
    monkeypatch.setenv("HOME", str(world.model.parent))
    assert resolve(ModelRef("~/model", "cpu", "float32")).image_size == 16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a device here")
def test_a_device_that_is_not_here():
    with pytest.raises(ModelError, match=r"model\.device is 'cuda'.*use auto"):
        device_of("cuda")
    assert device_of("cpu") == "cpu"
    assert device_of("auto") in ("cpu", "mps")


def test_a_process_loads_a_model_once(world):
    ref = ModelRef(str(world.model), "cpu", "float32")
    assert resolve(ref) is resolve(ModelRef(str(world.model), "cpu", "float32"))
    loaded = resolve(ref)
    assert resolve(loaded) is loaded


def test_the_verbosity_of_the_libraries_is_put_back(world):
    libraries = (diffusers_logging, transformers_logging)
    before = [(one.get_verbosity(), one.is_progress_bar_enabled()) for one in libraries]
    load_pipeline(ModelRef(str(world.model), "cpu", "float32"))
    with pytest.raises(ModelError):
        load_pipeline(ModelRef(str(world.model / "unet"), "cpu", "float32"))
    assert [(one.get_verbosity(), one.is_progress_bar_enabled()) for one in libraries] == before


def test_loading_says_nothing(world):
    """In a process of its own: the libraries say most of it once, when they are imported."""
    words = "from invdiff.engine.base_model.loading import ModelRef, resolve; import sys;"
    words += "resolve(ModelRef(sys.argv[1], 'cpu', 'float32'))"
    command = [sys.executable, "-c", words, str(world.model)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
