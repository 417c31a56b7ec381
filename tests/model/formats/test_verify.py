"""The verification: it passes what is right and finds what is subtly wrong."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from invdiff.errors import ModelError
from invdiff.model.formats import kohya
from invdiff.model.formats.verify import Verifier
from invdiff.model.lora import adapter, adapter_file
from invdiff.model.lora.adapter_file import read
from invdiff.model.lora.arithmetic import save_merged
from tests.model import tiny
from tests.model.formats.test_kohya import SMALL, trained
from tests.model.tiny_pipelines import flux

STEPS = {"num_inference_steps": 2}


@pytest.fixture
def pipe():
    return tiny.pipeline()


@pytest.fixture
def lora(pipe, tmp_path):
    return trained(pipe.unet, tmp_path / "adapter")


@pytest.fixture
def verifier(pipe, lora, tmp_path):
    return Verifier(pipe, tmp_path / "adapter", lora, ["a hat"], STEPS)


@pytest.fixture
def file(lora, tmp_path):
    """A kohya file of the adapter; `change` it and see."""
    path = tmp_path / kohya.FILE
    save_file(kohya.convert(lora, "UNet2DConditionModel"), path, metadata={"format": "pt"})
    return path


def change(path, edit):
    weights = load_file(path)
    save_file({k: edit(k, v) for k, v in weights.items() if edit(k, v) is not None}, path)


def test_a_right_file_passes_and_the_pipeline_is_left_as_it_was(verifier, file, pipe):
    keys = list(pipe.unet.state_dict())
    check = verifier.lora_file(file)
    assert check.ok
    assert check.difference < 1e-4 < check.effect
    assert (check.layers, check.comfyui) == (77, 77)
    assert "77 of 77 layers matched" in str(check)
    assert list(pipe.unet.state_dict()) == keys
    assert verifier.lora_file(file) == check


def test_half_the_strength_is_found(verifier, file):
    """Trap: alpha that is not the rank reloads without a word, at another strength."""
    change(file, lambda key, value: value / 2 if key.endswith(".alpha") else value)
    check = verifier.lora_file(file)
    assert not check.ok
    assert check.difference > 0.2
    assert "WRONG" in str(check)


def test_a_layer_that_is_lost_is_named(verifier, file, lora):
    stem = "lora_unet_" + lora.layers[0].replace(".", "_")
    change(file, lambda key, value: None if key.startswith(f"{stem}.") else value)
    check = verifier.lora_file(file)
    assert check.unmatched == (lora.layers[0],)
    assert not check.ok
    assert check.comfyui == 76


def test_a_file_of_which_nothing_is_read_is_found(verifier, lora, file, tmp_path):
    save_file({"strange.lora_down.weight": torch.ones(2, 2)}, tmp_path / "odd.safetensors")
    check = verifier.lora_file(tmp_path / "odd.safetensors")
    assert check.unmatched == tuple(lora.layers)
    assert check.difference == pytest.approx(1)
    assert (check.ok, check.comfyui) == (False, 0)
    assert verifier.lora_file(file).ok


def test_a_file_that_the_loader_refuses_is_an_error(tmp_path):
    """diffusers takes kohya's single blocks of Flux apart at the width of Flux.1 only."""
    pipe = flux()
    lora = trained(pipe.transformer, tmp_path)
    save_file(kohya.convert(lora, "FluxTransformer2DModel"), tmp_path / kohya.FILE)
    verifier = Verifier(pipe, tmp_path, lora, ["a hat"], STEPS | SMALL)
    with pytest.raises(ModelError, match=r"cannot be loaded again by FluxPipeline \(Assertion"):
        verifier.lora_file(tmp_path / kohya.FILE)
    assert verifier.lora_file(tmp_path / adapter_file.FILE).ok


def test_the_merged_pipeline_is_held_against_the_same_weight(verifier, pipe, lora, tmp_path):
    save_merged(pipe, lora, 0.5, tmp_path / "merged")
    half = Verifier(pipe, tmp_path / "adapter", lora, ["a hat"], STEPS, 0.5)
    assert half.folder(tmp_path / "merged").ok
    wrong = verifier.folder(tmp_path / "merged")
    assert not wrong.ok
    assert wrong.difference > 0.2


def test_an_adapter_that_does_nothing_must_go_on_doing_nothing(pipe, file, tmp_path):
    adapter.add_lora(pipe.unet, 4, seed=0)
    adapter_file.save(pipe.unet, tmp_path / "fresh", {})
    adapter.remove(pipe.unet)
    verifier = Verifier(pipe, tmp_path / "fresh", read(tmp_path / "fresh"), ["a hat"], STEPS)
    assert not verifier.lora_file(file).ok
    check = verifier.lora_file(tmp_path / "fresh" / adapter_file.FILE)
    assert (check.ok, check.effect) == (True, 0.0)


def test_a_pipeline_with_a_lora_is_refused(pipe, lora, tmp_path):
    pipe.load_lora_weights(tmp_path / "adapter")
    with pytest.raises(ModelError, match="carries a LoRA already"):
        Verifier(pipe, tmp_path / "adapter", lora, ["a hat"], STEPS)


class WithoutLoader:
    """A pipeline that has no `load_lora_weights`, as that of PixArt."""

    def __init__(self, pipe):
        self.unet, self.call = pipe.unet, pipe

    def __call__(self, *prompts, **options):
        return self.call(*prompts, **options)


def test_a_family_without_a_pipeline_loader_goes_through_ours(pipe, lora, tmp_path):
    plain = WithoutLoader(pipe)
    verifier = Verifier(plain, tmp_path / "adapter", lora, ["a hat"], STEPS)
    check = verifier.lora_file(tmp_path / "adapter" / adapter_file.FILE)
    assert check.ok
    assert check.effect > 0
    assert not adapter.has_adapter(pipe.unet)
