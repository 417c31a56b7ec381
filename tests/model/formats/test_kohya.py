"""Kohya names and alphas: what diffusers' own kohya loader makes of them is our adapter."""

import json
import os
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_kohya, convert_unet_state_dict_to_peft
from safetensors.torch import save_file

from invdiff.errors import ModelError
from invdiff.model.denoiser import denoiser_module
from invdiff.model.formats import kohya
from invdiff.model.guidance.attach import attached
from invdiff.model.lora import adapter, adapter_file
from invdiff.model.lora.adapter_file import LoraFile, read
from tests.model import tiny
from tests.model.lora.test_lora_file import write
from tests.model.tiny_pipelines import DENOISERS, flux, sdxl

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = {"height": 16, "width": 16, "max_sequence_length": 16}
PIPELINES = {
    "sd": (tiny.pipeline, {}),
    "sdxl": (sdxl, {}),
    "flux": (lambda: flux(single=0), SMALL),  # the loader knows single blocks of full width only
}


def trained(module, folder, rank=4):
    """An adapter that does something, on the disk; the network is left as it was."""
    adapter.add_lora(module, rank, seed=0)
    tiny.move(module)
    adapter_file.save(module, folder, {})
    adapter.remove(module)
    return read(folder)


def draw(pipe, **options):
    seeds = [torch.Generator().manual_seed(seed) for seed in range(2)]
    prompts = ["a hat", "a coat"]
    options = {"num_inference_steps": 2, "output_type": "np", **options}
    return pipe(prompts, generator=seeds, **options).images


def random_lora(module, rank):
    """A LoRA of a network that may be on the meta device."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name in adapter.targets(module):
        outputs, *inputs = module.get_submodule(name).weight.shape
        kernel = [1] * (len(inputs) - 1)
        weights[f"{name}.lora_A.weight"] = torch.randn(rank, *inputs, generator=generator)
        weights[f"{name}.lora_B.weight"] = torch.randn(outputs, rank, *kernel, generator=generator)
    return LoraFile(adapter.component(module), weights, {})


@pytest.mark.parametrize("rank", [4, 16])
@pytest.mark.parametrize("family", PIPELINES)
def test_the_stock_kohya_loader_draws_the_pictures_of_strength_one(family, rank, tmp_path):
    make, options = PIPELINES[family]
    pipe = make()
    base, module = draw(pipe, **options), denoiser_module(pipe)
    lora = trained(module, tmp_path, rank)
    with attached(pipe, tmp_path, strength=1.0):
        ours = draw(pipe, **options)
    weights = kohya.convert(lora, type(module).__name__)
    save_file(weights, tmp_path / "kohya.safetensors", metadata={"format": "pt"})
    pipe.load_lora_weights(tmp_path, weight_name="kohya.safetensors")
    effect = np.abs(ours - base).mean()
    assert effect > 1e-3
    assert np.abs(draw(pipe, **options) - ours).max() < 1e-5


@pytest.mark.parametrize("rank", [4, 16])
def test_flux_of_full_width_comes_back_as_the_same_matrices(rank):
    """One block of each kind at the width of Flux.1: the joined layers are taken apart again."""
    with torch.device("meta"):
        module = DENOISERS["flux"]().from_config(
            {"num_layers": 1, "num_single_layers": 1, "guidance_embeds": True}
        )
    lora = random_lora(module, rank)
    weights = kohya.convert(lora, "FluxTransformer2DModel")
    assert weights["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"].shape[0] == 3 * rank
    assert weights["lora_unet_single_blocks_0_linear1.lora_up.weight"].shape[1] == 4 * rank
    found = FluxPipeline.lora_state_dict(dict(weights), return_alphas=True)
    assert not found[1]
    assert {key.removeprefix("transformer."): value.shape for key, value in found[0].items()} == {
        key: value.shape for key, value in lora.weights.items()
    }
    assert all(torch.equal(found[0][f"transformer.{k}"], v) for k, v in lora.weights.items())


@pytest.mark.parametrize("family", ["sd", "sdxl", "flux"])
def test_alpha_is_the_rank_in_every_layer(family):
    module = DENOISERS[family]()
    weights = kohya.convert(random_lora(module, 4), type(module).__name__)
    alphas = [key for key in weights if key.endswith(".alpha")]
    assert alphas
    for key in alphas:
        down = weights[key.replace(".alpha", ".lora_down.weight")]
        assert weights[key].item() == len(down)


def test_without_folding_a_stock_conversion_halves_the_strength(tmp_path):
    """Trap: alpha 8 at rank 4. The converter writes alpha = 4, and nothing is said about it."""
    unet = write(tmp_path, lora_alpha=8)
    name = "down_blocks.1.attentions.0.proj_in"
    expected = unet.get_submodule(name).get_delta_weight("default").flatten(1)
    raw = {
        f"unet.{name}.lora_{one}.weight": getattr(unet.get_submodule(name), f"lora_{one}")[
            "default"
        ].weight.detach()
        for one in "AB"
    }
    assert torch.allclose(2 * product(convert_state_dict_to_kohya(raw), name), expected)
    ours = kohya.convert(read(tmp_path), "UNet2DConditionModel")
    assert torch.allclose(product(ours, name), expected, rtol=1e-5)


def product(weights, name):
    stem = "lora_unet_" + name.replace(".", "_")
    down, up = (weights[f"{stem}.lora_{one}.weight"].flatten(1) for one in ("down", "up"))
    return weights[f"{stem}.alpha"] / len(down) * (up @ down)


# Names, against files that change only on purpose: UPDATE_GOLDEN=1 pytest tests/model/formats


@pytest.mark.parametrize("family", sorted(DENOISERS))
def test_names_in_diffusers_format(family):
    module = DENOISERS[family]()
    check_golden(f"{family}-diffusers", random_lora(module, 4).prefixed())


@pytest.mark.parametrize("family", ["sd", "sdxl", "flux"])
def test_names_in_kohya_format(family):
    module = DENOISERS[family]()
    check_golden(f"{family}-kohya", kohya.convert(random_lora(module, 4), type(module).__name__))


def check_golden(name, weights):
    path = GOLDEN / f"{name}.txt"
    text = "".join(f"{key} {list(weights[key].shape)}\n" for key in sorted(weights))
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("family", ["sd", "sdxl", "flux"])
def test_comfyui_finds_every_layer_of_a_kohya_file(family):
    module = DENOISERS[family]()
    kind, lora = type(module).__name__, random_lora(module, 4)
    weights = kohya.convert(lora, kind)
    assert kohya.unread_by_comfyui(lora.layers, weights, kind) == []
    lost = next(key for key in weights if key.endswith("lora_down.weight"))
    del weights[lost]
    assert kohya.unread_by_comfyui(lora.layers, weights, kind)


def test_comfyui_loses_the_attention_of_a_unet_in_diffusers_format():
    """Trap: "lora key not loaded" is a warning there, so the verification counts the layers."""
    module = tiny.unet()
    lora = random_lora(module, 4)
    lost = kohya.unread_by_comfyui(lora.layers, lora.prefixed(), "UNet2DConditionModel")
    assert lost == [name for name in lora.layers if ".to_" in name]


COMFYUI = json.loads((GOLDEN / "comfyui.json").read_text())


@pytest.mark.parametrize("family", COMFYUI["layers"])
def test_comfyui_finds_every_layer_of_a_transformer_in_diffusers_format(family):
    """Its own map of the family's layers, for which a file says `transformer.<layer>`."""
    module = DENOISERS[family]()
    lora = random_lora(module, 4)
    assert kohya.unread_by_comfyui(lora.layers, lora.prefixed(), type(module).__name__) == []
    known = COMFYUI["layers"][family]
    assert [one for one in lora.layers if re.sub(r"\d+", "N", one, count=1) not in known] == []


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_comfyui_knows_every_layer_of_a_unet(family):
    """Its own map, of which a file has the names with underscores."""
    module = DENOISERS[family]()
    lora = random_lora(module, 4)
    names = {re.sub(r"\.\d+", ".N", layer) for layer in lora.layers}
    assert names - set(COMFYUI["unet"]) == set()
    weights = kohya.convert(lora, type(module).__name__)
    named = {f"lora_unet_{layer.replace('.', '_')}" for layer in lora.layers}
    assert {key.partition(".")[0] for key in weights} == named


@pytest.mark.parametrize("family", set(DENOISERS) - set(COMFYUI["layers"]) - {"sd", "sdxl"})
def test_no_more_families_are_said_to_be_read_by_comfyui(family):
    module = DENOISERS[family]()
    lora = random_lora(module, 4)
    lost = kohya.unread_by_comfyui(lora.layers, lora.prefixed(), type(module).__name__)
    assert lost == lora.layers


@pytest.mark.parametrize("family", ["sd3", "sana", "pixart"])
def test_families_without_a_kohya_loader_are_refused(family):
    module = DENOISERS[family]()
    assert type(module).__name__ not in kohya.SUPPORTED
    with pytest.raises(ModelError, match="--format diffusers"):
        kohya.convert(random_lora(module, 4), type(module).__name__)


def test_layers_that_kohya_joins_must_all_be_there():
    module = DENOISERS["flux"]()
    lora = random_lora(module, 4)
    kept = {k: v for k, v in lora.weights.items() if ".0.attn.to_k." not in k}
    with pytest.raises(ModelError, match=r"has no transformer_blocks\.0\.attn\.to_k"):
        kohya.convert(LoraFile("transformer", kept, {}), "FluxTransformer2DModel")
    strange = {f"x_embedder.lora_{one}.weight": torch.ones(2, 2) for one in "AB"}
    with pytest.raises(ModelError, match="no name for the layer x_embedder"):
        kohya.convert(LoraFile("transformer", strange, {}), "FluxTransformer2DModel")


def sdxl_network():
    """The network of SDXL in its true shape, without weights."""
    facts = json.loads(
        files("invdiff").joinpath("assets/architectures/sdxl.json").read_text(encoding="utf-8")
    )
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(facts["parts"]["unet"]["config"])


def test_a_file_for_sdxl_has_the_names_of_its_authors():
    """sd-scripts' `sdxl_merge_lora` and `--network_weights` look for these and no others."""
    module = sdxl_network()
    lora = random_lora(module, 1)
    weights = kohya.convert(lora, "UNet2DConditionModel", sdxl_layers=2)
    stems = {key.partition(".")[0] for key in weights}
    assert len(stems) == len(lora.layers)
    blocks = ("input_blocks", "middle_block", "output_blocks")
    assert all(stem.startswith(tuple(f"lora_unet_{block}_" for block in blocks)) for stem in stems)
    for name in (
        "input_blocks_1_0_in_layers_2",
        "input_blocks_4_0_skip_connection",
        "input_blocks_8_1_transformer_blocks_9_attn2_to_k",
        "middle_block_0_emb_layers_1",
        "middle_block_1_proj_in",
        "middle_block_2_out_layers_3",
        "output_blocks_0_1_transformer_blocks_0_ff_net_0_proj",
        "output_blocks_8_0_skip_connection",
    ):
        assert f"lora_unet_{name}" in stems
    assert kohya.unread_by_comfyui(lora.layers, weights, "UNet2DConditionModel") == []


def test_diffusers_maps_the_names_of_sdxl_back_layer_by_layer():
    module = sdxl_network()
    lora = random_lora(module, 1)
    weights = kohya.convert(lora, "UNet2DConditionModel", sdxl_layers=2)
    found, alphas = StableDiffusionXLPipeline.lora_state_dict(
        dict(weights), unet_config=module.config
    )
    assert len(alphas) == len(lora.layers)
    found = convert_unet_state_dict_to_peft(found)
    assert {key.removeprefix("unet.") for key in found} == set(lora.weights)
    assert all(torch.equal(found[f"unet.{key}"], value) for key, value in lora.weights.items())


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("down_blocks.1.downsamplers.0.conv", "input_blocks.6.0.op"),
        ("up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
        ("conv_in", "input_blocks.0.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("add_embedding.linear_1", "label_emb.0.0"),
    ],
)
def test_layers_of_other_loras_have_their_names_too(layer, name):
    assert kohya.sai_name(layer, 2) == name


def test_a_layer_that_sdxl_does_not_have_is_named():
    strange = {f"class_embedding.lora_{one}.weight": torch.ones(2, 2) for one in "AB"}
    with pytest.raises(ModelError, match="no name for the layer class_embedding"):
        kohya.convert(LoraFile("unet", strange, {}), "UNet2DConditionModel", sdxl_layers=2)


def test_a_small_sdxl_of_the_authors_names_draws_the_pictures_of_strength_one(tmp_path):
    pipe = sdxl()
    lora = trained(pipe.unet, tmp_path)
    with attached(pipe, tmp_path, strength=1.0):
        ours = draw(pipe)
    layers = pipe.unet.config.layers_per_block
    weights = kohya.convert(lora, "UNet2DConditionModel", layers)
    save_file(weights, tmp_path / "kohya.safetensors", metadata={"format": "pt"})
    pipe.load_lora_weights(tmp_path, weight_name="kohya.safetensors")
    assert np.abs(draw(pipe) - ours).max() < 1e-5
