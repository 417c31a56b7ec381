"""Merging: the pictures of the adapter without an adapter, and a base that is left alone."""

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from invdiff.errors import ModelError
from invdiff.model.guidance.attach import attached
from invdiff.model.lora import adapter, adapter_file
from invdiff.model.lora.arithmetic import merged, save_merged
from tests.model import tiny
from tests.model.formats.test_kohya import draw, random_lora, trained
from tests.model.tiny_pipelines import DENOISERS


def test_the_merged_pipeline_draws_the_pictures_of_strength_one(tmp_path):
    pipe = tiny.pipeline()
    base, before = draw(pipe), {k: v.clone() for k, v in pipe.unet.state_dict().items()}
    lora = trained(pipe.unet, tmp_path)
    with attached(pipe, tmp_path, strength=1.0):
        ours = draw(pipe)
    save_merged(pipe, lora, 1.0, tmp_path / "merged")
    again = DiffusionPipeline.from_pretrained(tmp_path / "merged")
    again.set_progress_bar_config(disable=True)
    assert type(again) is type(pipe)
    assert np.abs(ours - base).max() > 0.01
    assert np.abs(draw(again) - ours).max() < 1e-5
    after = pipe.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux", "sana"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_weights_are_those_of_a_fused_lora(family, strength, tmp_path):
    torch.manual_seed(0)
    module = DENOISERS[family]()
    lora = trained(module, tmp_path)
    with merged(module, lora, strength):
        ours = {name: module.get_submodule(name).weight.clone() for name in lora.layers}
    adapter_file.load(module, tmp_path)
    module.fuse_lora(lora_scale=strength, adapter_names=[adapter.NAME])
    for name, weight in ours.items():
        stock = module.get_submodule(name).base_layer.weight
        assert torch.allclose(weight, stock, atol=1e-6), name


def test_a_family_without_a_lora_loader_can_be_merged_all_the_same():
    module = DENOISERS["pixart"]()
    lora = random_lora(module, 4)
    name = lora.layers[0]
    a, b = (lora.weights[f"{name}.lora_{one}.weight"] for one in "AB")
    expected = module.get_submodule(name).weight + 0.5 * b @ a
    with merged(module, lora, 0.5):
        assert torch.allclose(module.get_submodule(name).weight, expected, atol=1e-6)


def test_the_base_comes_back_after_an_error(tmp_path):
    unet = tiny.pipeline().unet
    before = {k: v.clone() for k, v in unet.state_dict().items()}
    lora = trained(unet, tmp_path)
    with pytest.raises(KeyError), merged(unet, lora, 1.0):
        raise KeyError
    assert all(torch.equal(v, before[k]) for k, v in unet.state_dict().items())


def test_another_network_and_one_with_a_lora_are_refused(tmp_path):
    unet = tiny.pipeline().unet
    lora = trained(unet, tmp_path)
    with (
        pytest.raises(ModelError, match="made for another network"),
        merged(tiny.unet((8, 16)), lora, 1),
    ):
        pass
    adapter_file.load(unet, tmp_path)
    with pytest.raises(ModelError, match="carries a LoRA already"), merged(unet, lora, 1):
        pass


def test_grouped_convolutions_are_refused(tmp_path):
    lora = trained(tiny.pipeline().unet, tmp_path)
    other = tiny.pipeline().unet
    other.mid_block.resnets[0].conv1.groups = 2
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(ModelError, match="grouped convolution"), merged(other, lora, 1):
        pass
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())
