"""Reading a LoRA: whatever its alpha was, what comes out has alpha = rank and the same effect."""

import json

import pytest
import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from invdiff.errors import ModelError
from invdiff.model.guidance.attach import attach
from invdiff.model.lora import adapter, adapter_file
from invdiff.model.lora.adapter_file import read
from tests.model import tiny

LAYERS = ["down_blocks.1.attentions.0.proj_in", "mid_block.resnets.0.conv1"]


def write(folder, **options):
    """A LoRA made by PEFT and saved by the stock pipeline; the network that carries it."""
    pipe = tiny.pipeline()
    config = LoraConfig(**{"r": 4, "target_modules": LAYERS} | options)
    torch.manual_seed(0)
    pipe.unet.add_adapter(config, adapter_name="default")
    for name, tensor in pipe.unet.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(tensor, std=0.1)
    weights = {
        f"unet.{name.replace('.default', '')}": tensor.detach().contiguous()
        for name, tensor in pipe.unet.named_parameters()
        if ".lora_" in name
    }
    header = {f"unet.{key}": value for key, value in config.to_dict().items()}
    header["unet.target_modules"] = LAYERS
    kept = {key: value for key, value in header.items() if value is None or is_plain(value)}
    metadata = {LORA_ADAPTER_METADATA_KEY: json.dumps(kept)}
    save_file(weights, folder / adapter_file.FILE, metadata=metadata)
    return pipe.unet


def is_plain(value):
    return isinstance(value, bool | int | float | str | list | dict)


def delta(lora, layer):
    a, b = (lora.weights[f"{layer}.lora_{one}.weight"].flatten(1) for one in "AB")
    return b @ a


@pytest.mark.parametrize(
    "options",
    [
        {"lora_alpha": 4},
        {"lora_alpha": 8},
        {"lora_alpha": 8, "use_rslora": True},
        {"lora_alpha": 2, "alpha_pattern": {"conv1": 16}, "rank_pattern": {"conv1": 2}},
        {"lora_alpha": 6, "alpha_pattern": {"^mid_block.*conv1": 1}},
    ],
)
def test_alpha_is_folded_into_b(tmp_path, options):
    unet, lora = write(tmp_path, **options), read(tmp_path)
    assert lora.layers == LAYERS
    for name in LAYERS:
        layer = unet.get_submodule(name)
        expected = layer.get_delta_weight("default").flatten(1)
        assert torch.allclose(delta(lora, name), expected, rtol=1e-5, atol=1e-7)
        assert lora.ranks[name] == layer.r["default"]


def test_what_invdiff_wrote_comes_back_with_its_settings(tmp_path):
    unet = tiny.pipeline().unet
    adapter.add_lora(unet, 4, seed=0)
    tiny.move(unet)
    adapter_file.save(unet, tmp_path, {"rank": 4})
    lora, state = read(tmp_path), adapter.state(unet)
    assert lora.component == "unet"
    assert lora.settings == {"rank": 4}
    assert lora.weights.keys() == state.keys()
    assert all(torch.equal(lora.weights[key], state[key]) for key in state)


@pytest.mark.parametrize("part", ["settings", "weights"])
def test_a_damaged_file_is_not_read(tmp_path, part):
    """What is exported from an adapter folder would else carry the damage on, with a new hash."""
    unet = tiny.pipeline().unet
    adapter.add_lora(unet, 4, seed=0)
    adapter_file.save(unet, tmp_path, {"rank": 4})
    path = tmp_path / adapter_file.FILE
    content, setting = bytearray(path.read_bytes()), b'rank\\": 4'
    place = content.index(setting) + len(setting) - 1 if part == "settings" else -9
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is damaged: its hash is another"):
        read(tmp_path)


def test_the_header_of_mixed_ranks_is_what_diffusers_needs(tmp_path):
    write(tmp_path, lora_alpha=2, rank_pattern={"conv1": 2}, alpha_pattern={"conv1": 1})
    lora = read(tmp_path)
    save_file(lora.prefixed(), tmp_path / adapter_file.FILE, metadata=lora.header())
    pipe = tiny.pipeline()
    pipe.load_lora_weights(tmp_path)
    for name in LAYERS:
        layer = pipe.unet.get_submodule(name)
        loaded = layer.get_delta_weight("default_0").flatten(1)
        assert torch.allclose(loaded, delta(lora, name), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["unet.a.lora_A.weight", "text_encoder.a.lora_A.weight"], "holds text_encoder, unet"),
        (["model.a.lora_A.weight"], "holds model; export takes"),
        (["unet.a.lora_A.weight"], r"a\.lora_B\.weight has no place"),
        (["unet.a.lora_A.weight", "unet.a.lora_B.weight", "unet.a.alpha"], r"a\.alpha has no"),
    ],
)
def test_what_is_no_plain_lora_of_a_denoiser_is_refused(tmp_path, keys, message):
    save_file({key: torch.ones(2, 2) for key in keys}, tmp_path / adapter_file.FILE)
    with pytest.raises(ModelError, match=message):
        read(tmp_path)


def test_dora_is_refused(tmp_path):
    weights = {f"unet.a.lora_{one}.weight": torch.ones(2, 2) for one in "AB"}
    metadata = {LORA_ADAPTER_METADATA_KEY: json.dumps({"unet.use_dora": True})}
    save_file(weights, tmp_path / adapter_file.FILE, metadata=metadata)
    with pytest.raises(ModelError, match="is a DoRA"):
        read(tmp_path)


def told_by_every_reader(folder, words):
    with pytest.raises(ModelError, match=words):
        read(folder)
    pipe = tiny.pipeline()
    with pytest.raises(ModelError, match=words):
        attach(pipe, folder)
    assert not adapter.has_adapter(pipe.unet)


def changed(folder, change):
    """A LoRA without a hash, as others write it, after a change of its tensors."""
    write(folder)
    tensors = load_file(folder / adapter_file.FILE)
    save_file(change(tensors), folder / adapter_file.FILE)


def test_a_strength_does_not_lose_or_overflow_values_in_half_precision(tmp_path):
    key = f"{LAYERS[0]}.lora_B.weight"

    def halved(found):
        half = {name: tensor.half() for name, tensor in found.items()}
        values = half[f"unet.{key}"].flatten()
        values[:2] = torch.tensor([1e-6, 3e4]).half()
        return half

    changed(tmp_path, halved)
    lora = read(tmp_path)
    small, large = lora.weights[key].flatten()[:2].float()
    assert lora.at(0.01).weights[key].flatten()[0].item() == pytest.approx(0.01 * small.item())
    assert lora.at(3.0).weights[key].flatten()[1].item() == pytest.approx(3 * large.item())


def test_half_a_layer_is_told(tmp_path):
    """The stock loader leaves B at zero: that layer would be the base's, and nothing said."""
    changed(tmp_path, lambda found: {k: v for k, v in found.items() if "proj_in.lora_B" not in k})
    told_by_every_reader(tmp_path, "no plain LoRA: .*proj_in.lora_B.weight has no place in pairs")


def test_values_that_are_no_numbers_are_told(tmp_path):
    key = f"unet.{LAYERS[1]}.lora_A.weight"
    changed(tmp_path, lambda found: found | {key: found[key] * torch.nan})
    told_by_every_reader(tmp_path, "no numbers in 1 of 4 tensors, first mid_block.*lora_A")


def test_a_dora_is_told_when_it_is_attached_too(tmp_path):
    write(tmp_path, use_dora=True)
    told_by_every_reader(tmp_path, "is a DoRA")


def test_names_without_their_network_are_told(tmp_path):
    changed(tmp_path, lambda found: {k.removeprefix("unet."): v for k, v in found.items()})
    with pytest.raises(
        ModelError, match="another network: none of its 4 tensors begins with 'unet"
    ):
        attach(tiny.pipeline(), tmp_path)
