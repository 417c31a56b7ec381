"""Fused branches: prediction and gradients are PEFT's, and PEFT itself where they do not fit."""

import pytest
import torch
from peft.tuners.lora import LoraLayer

from invdiff.model.lora import adapter
from invdiff.model.lora.arithmetic import fused_branches
from tests.model import tiny


@pytest.fixture
def unet():
    network = tiny.pipeline().unet
    adapter.add_lora(network, 4, seed=0)
    tiny.move(network)
    return network


def predict(unet):
    draw = torch.Generator().manual_seed(1)
    latent = torch.randn(2, 4, tiny.LATENT, tiny.LATENT, generator=draw)
    text = torch.randn(2, 5, tiny.TEXT, generator=draw)
    return unet(latent.to(unet.dtype), torch.tensor([900, 100]), text.to(unet.dtype)).sample


def gradients(unet):
    parameters = adapter.parameters(unet)
    return torch.autograd.grad(predict(unet).float().square().mean(), parameters)


@pytest.fixture
def calls(monkeypatch):
    """How often each of the two operations was used."""
    counted = {"addmm": 0, "baddbmm": 0}

    def counting(name, original):
        def counted_call(*args, **kwargs):
            counted[name] += 1
            return original(*args, **kwargs)

        return counted_call

    for name in counted:
        monkeypatch.setattr(torch, name, counting(name, getattr(torch, name)))
    return counted


def test_prediction_and_gradients_are_those_of_peft(unet, calls):
    plain, expected = predict(unet), gradients(unet)
    assert not any(calls.values())
    with fused_branches(unet):
        found = predict(unet)
        kinds = [type(layer).__name__ for layer in adapter.adapted_layers(unet).values()]
        assert calls == {"addmm": kinds.count("Linear"), "baddbmm": kinds.count("Conv2d")}
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
        for gradient, one in zip(gradients(unet), expected, strict=True):
            torch.testing.assert_close(gradient, one, rtol=1e-4, atol=1e-6)


def test_an_adapter_that_is_off_is_the_base_to_the_bit(unet, calls):
    with adapter.disabled(unet):
        base = predict(unet)
        with fused_branches(unet):
            assert torch.equal(predict(unet), base)
    assert not any(calls.values())


def test_another_precision_is_left_to_peft(unet, calls):
    for layer in unet.modules():
        if not isinstance(layer, LoraLayer) and not list(layer.children()):
            layer.to(torch.bfloat16)
    for weight in adapter.parameters(unet):
        weight.data = weight.data.float()
    plain = predict(unet)
    with fused_branches(unet):
        assert torch.equal(predict(unet), plain)
    assert not any(calls.values())


def test_afterwards_the_layers_are_as_they_were(unet, calls):
    plain = predict(unet)
    with pytest.raises(KeyError), fused_branches(unet):
        raise KeyError
    assert torch.equal(predict(unet), plain)
    assert not any("forward" in vars(layer) for layer in adapter.adapted_layers(unet).values())
