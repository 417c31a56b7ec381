"""The LoRA: nothing at the start, only itself trained, the same after saving, gone when removed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from invdiff.errors import ModelError
from invdiff.model.lora import adapter, adapter_file
from tests.model import tiny


@pytest.fixture
def unet():
    return tiny.pipeline().unet


def _inputs():
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(2, 4, tiny.LATENT, tiny.LATENT, generator=generator)
    return latent, torch.tensor([900, 100]), torch.randn(2, 5, tiny.TEXT, generator=generator)


def _predict(unet):
    with torch.no_grad():
        return unet(*_inputs()).sample


def _moved(unet, rank=4, seed=0):
    """An adapter that does something: B is drawn too."""
    adapter.add_lora(unet, rank, seed)
    tiny.move(unet)
    return unet


def _loss(unet):
    return unet(*_inputs()).sample.square().mean()


def test_targets_are_attention_feed_forward_and_convolution_of_every_block(unet):
    chosen = set(adapter.targets(unet))
    layers = {
        name for name, layer in unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    assert layers - chosen == {
        "conv_in",
        "conv_out",
        "time_embedding.linear_1",
        "time_embedding.linear_2",
        "down_blocks.0.downsamplers.0.conv",
        "up_blocks.0.upsamplers.0.conv",
    }
    for ending in (
        "to_q",
        "to_out.0",
        "ff.net.2",
        "proj_in",
        "conv1",
        "conv_shortcut",
        "time_emb_proj",
    ):
        assert any(name.endswith(ending) for name in chosen), ending


def test_a_network_without_such_layers_is_refused():
    with pytest.raises(ModelError, match="pass the denoiser"):
        adapter.targets(nn.Linear(2, 2))


def test_a_fresh_adapter_changes_nothing(unet):
    base = _predict(unet)
    adapter.add_lora(unet, 4, seed=0)
    assert torch.equal(_predict(unet), base)


def test_alpha_is_the_rank(unet):
    adapter.add_lora(unet, 3, seed=0)
    assert unet.peft_config[adapter.NAME].lora_alpha == 3
    assert {layer.scaling[adapter.NAME] for layer in adapter.adapted_layers(unet).values()} == {1.0}


def test_the_seed_alone_decides_the_weights():
    first, second, other = (tiny.unet() for _ in range(3))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    adapter.add_lora(first, 4, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    adapter.add_lora(second, 4, seed=0)
    adapter.add_lora(other, 4, seed=1)
    one, two, three = (adapter.state(each) for each in (first, second, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(not torch.equal(one[name], three[name]) for name in one if "lora_A" in name)
    assert all(tensor.abs().sum() == 0 for name, tensor in one.items() if "lora_B" in name)


def test_a_is_uniform_within_the_bound_of_its_fan_in(unet):
    adapter.add_lora(unet, 8, seed=0)
    for name, tensor in adapter.state(unet).items():
        if "lora_A" in name:
            bound = tensor[0].numel() ** -0.5
            assert tensor.abs().max() <= bound
            assert abs(tensor.std() / (bound / 3**0.5) - 1) < 0.25, name


def test_only_adapter_parameters_get_gradients(unet):
    _moved(unet)
    _loss(unet).backward()
    with_gradient = {id(each) for each in unet.parameters() if each.grad is not None}
    assert with_gradient == {id(each) for each in adapter.parameters(unet)}
    assert all(each.grad.abs().sum() > 0 for each in adapter.parameters(unet))


def test_switching_changes_nothing_but_the_output(unet):
    base = _predict(unet)
    adapted = _predict(_moved(unet))
    assert not torch.allclose(adapted, base, atol=1e-3)
    with adapter.disabled(unet):
        assert torch.equal(_predict(unet), base)
        assert all(each.requires_grad for each in adapter.parameters(unet))
    assert torch.equal(_predict(unet), adapted)
    with adapter.switched(unet, on=False):
        with adapter.switched(unet, on=True):
            assert torch.equal(_predict(unet), adapted)
        assert torch.equal(_predict(unet), base)


def test_the_switch_comes_back_after_an_error(unet):
    adapted = _predict(_moved(unet))
    with pytest.raises(KeyError), adapter.disabled(unet):
        raise KeyError
    assert torch.equal(_predict(unet), adapted)


def test_gradients_survive_a_base_pass_between_forward_and_backward(unet):
    _moved(unet)
    _loss(unet).backward()
    expected = [each.grad.clone() for each in adapter.parameters(unet)]
    unet.zero_grad()
    loss = _loss(unet)
    with torch.no_grad(), adapter.disabled(unet):
        unet(*_inputs())
    loss.backward()
    found = [each.grad for each in adapter.parameters(unet)]
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))


def test_removing_restores_the_base(unet):
    base, keys = _predict(unet), list(unet.state_dict())
    adapter.remove(_moved(unet))
    assert torch.equal(_predict(unet), base)
    assert list(unet.state_dict()) == keys
    assert not adapter.has_adapter(unet)
    adapter.add_lora(unet, 2, seed=0)  # and another one can be added


def test_state_goes_back_exactly(unet):
    adapted = _predict(_moved(unet))
    kept = adapter.state(unet)
    for each in adapter.parameters(unet):
        nn.init.ones_(each)
    assert not torch.equal(_predict(unet), adapted)
    adapter.load_state(unet, kept)
    assert torch.equal(_predict(unet), adapted)


def test_state_of_another_rank_or_network_is_refused(unet):
    _moved(unet)
    kept = adapter.state(unet)
    name = sorted(kept)[0]
    with pytest.raises(ModelError, match=r"missing.*use the rank"):
        adapter.load_state(unet, {key: kept[key] for key in kept if key != name})
    other = adapter.state(_moved(tiny.unet(), rank=8))
    with pytest.raises(ModelError, match=r"lora_A.weight is \[8,"):
        adapter.load_state(unet, other)


def test_the_stock_loader_opens_the_file_and_computes_the_same(unet, tmp_path):
    adapted = _predict(_moved(unet))
    path = adapter_file.save(unet, tmp_path / "adapter", {"recommended_strength": 1.5})
    assert [each.name for each in path.parent.iterdir()] == ["pytorch_lora_weights.safetensors"]
    stock = tiny.pipeline()
    stock.load_lora_weights(path.parent)
    assert torch.equal(_predict(stock.unet), adapted)
    again = tiny.pipeline().unet
    adapter_file.load(again, path.parent)
    assert torch.equal(_predict(again), adapted)


def test_the_file_gives_the_same_without_its_header(unet, tmp_path):
    """alpha == rank: kohya and ComfyUI, which don't read the header, get the same strength."""
    adapted = _predict(_moved(unet))
    path = adapter_file.save(unet, tmp_path, {})
    with safe_open(path, framework="pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    stock = tiny.pipeline()
    stock.load_lora_weights(weights)
    assert torch.equal(_predict(stock.unet), adapted)


def test_header_carries_settings_and_rank_and_no_more_of_peft_than_needed(unet, tmp_path):
    path = adapter_file.save(
        _moved(unet), tmp_path, {"recommended_strength": 1.5, "prompts": ["a"]}
    )
    assert adapter_file.read_settings(tmp_path) == {"recommended_strength": 1.5, "prompts": ["a"]}
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["lora_adapter_metadata"])
    assert header["unet.r"] == header["unet.lora_alpha"] == 4
    assert set(header) == {"unet.r", "unet.lora_alpha", "unet.target_modules"}


def test_settings_added_later_keep_weights_and_metadata(unet, tmp_path):
    adapted = _predict(_moved(unet))
    path = adapter_file.save(unet, tmp_path, {"rank": 4, "recommended_strength": 1.0})
    adapter_file.write_settings(tmp_path, recommended_strength=1.5)
    assert adapter_file.read(tmp_path).settings == {"rank": 4, "recommended_strength": 1.5}
    again = tiny.pipeline().unet
    adapter_file.load(again, tmp_path)
    assert torch.allclose(_predict(again), adapted, atol=1e-5)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_failed_save_keeps_the_old_file(unet, tmp_path, monkeypatch):
    path = adapter_file.save(_moved(unet), tmp_path, {"version": 1})

    def fail(path, content):
        path.touch()
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space"):
        adapter_file.save(unet, tmp_path, {"version": 2})
    assert adapter_file.read_settings(tmp_path) == {"version": 1}
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_an_adapter_for_another_network_is_refused_before_anything_changes(unet, tmp_path):
    adapter_file.save(_moved(unet), tmp_path, {})
    other = tiny.unet(channels=(8, 16))
    with pytest.raises(ModelError, match=r"another network: \d+ of \d+ tensors .*conv1.lora_A"):
        adapter_file.load(other, tmp_path)
    assert not adapter.has_adapter(other)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "give the adapter folder"), (b"torn", "not a readable")]
)
def test_missing_and_torn_files_are_named(unet, tmp_path, content, message):
    if content is not None:
        (tmp_path / adapter_file.FILE).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        adapter_file.load(unet, tmp_path)


def test_other_loras_stay_as_they_are(unet, tmp_path):
    """The base pass of a pipeline with a style LoRA is the style, not the bare network."""
    adapter_file.save(_moved(tiny.pipeline().unet, seed=1), tmp_path, {})
    alone = tiny.pipeline().unet
    adapter_file.load(alone, tmp_path)
    unet.load_lora_adapter(
        str(tmp_path), weight_name=adapter_file.FILE, prefix="unet", adapter_name="style"
    )
    style = _predict(unet)
    adapter_file.load(unet, tmp_path)
    both = _predict(unet)
    assert not torch.allclose(both, style, atol=1e-3)
    assert not torch.allclose(both, _predict(alone), atol=1e-3)
    with adapter.disabled(unet):
        assert torch.equal(_predict(unet), style)
    assert torch.equal(_predict(unet), both)
    adapter.remove(unet)
    assert torch.equal(_predict(unet), style)


def test_half_precision_base_has_a_float32_adapter(unet):
    unet = unet.to(torch.bfloat16)
    adapter.add_lora(unet, 4, seed=0)
    assert {each.dtype for each in adapter.parameters(unet)} == {torch.float32}
    latent, timestep, text = _inputs()
    assert unet(latent.bfloat16(), timestep, text.bfloat16()).sample.dtype == torch.bfloat16


def test_mistakes_name_the_next_step(unet):
    with pytest.raises(ModelError, match="add_lora starts a new one"):
        adapter.state(unet)
    with pytest.raises(ModelError, match="at least 1"):
        adapter.add_lora(unet, 0, seed=0)
    with pytest.raises(ModelError, match="no network of diffusers"):
        adapter.add_lora(nn.Sequential(), 4, seed=0)
    adapter.add_lora(unet, 4, seed=0)
    with pytest.raises(ModelError, match="call remove or detach first"):
        adapter.add_lora(unet, 4, seed=0)
    unet.fuse_lora()
    with pytest.raises(ModelError, match="unfuse_lora"), adapter.disabled(unet):
        pass
