"""The hook on one network: exact ends, the formula between, gradients, caches of its own."""

import itertools

import pytest
import torch
from diffusers import FirstBlockCacheConfig, FluxTransformer2DModel

from invdiff.errors import ModelError
from invdiff.model.guidance.hook import add_guidance, guidance_of, remove_guidance
from invdiff.model.lora import adapter
from tests.model import tiny


def inputs(batch=2):
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(batch, 4, tiny.LATENT, tiny.LATENT, generator=generator)
    return latent, torch.tensor(500), torch.randn(batch, 5, tiny.TEXT, generator=generator)


def both(module):
    """The base and the adapted prediction of a network with an adapter, without the hook."""
    with torch.no_grad():
        adapted = module(*inputs()).sample
        with adapter.disabled(module):
            return module(*inputs()).sample, adapted


def in_training(**options):
    """A guided network with an adapter in memory."""
    unet = tiny.pipeline().unet
    adapter.add_lora(unet, 4, seed=0)
    tiny.move(unet)
    base, adapted = both(unet)
    return unet, add_guidance(unet, **options), base, adapted


@pytest.mark.parametrize("strength", [0.5, 1.7])
@pytest.mark.parametrize("return_dict", [True, False])
def test_strength_between_is_the_formula(strength, return_dict):
    unet, guidance, base, adapted = in_training(strength=strength)
    output = unet(*inputs(), return_dict=return_dict)
    assert isinstance(output, tuple) != return_dict
    prediction = output.sample if return_dict else output[0]
    expected = base + strength * (adapted - base)
    torch.testing.assert_close(prediction, expected, rtol=1e-5, atol=1e-5)
    assert (guidance.calls, guidance.applied) == (1, 1)


def test_the_ends_are_exact_and_cost_one_pass():
    unet, guidance, base, adapted = in_training(strength=0.0)
    passes = []
    unet.conv_in.register_forward_hook(lambda *_: passes.append(1))
    assert torch.equal(unet(*inputs()).sample, base)
    guidance.strength = 1.0
    assert torch.equal(unet(*inputs()).sample, adapted)
    assert len(passes) == 2
    guidance.strength = 0.5
    unet(*inputs())
    assert len(passes) == 4


def test_each_sample_has_its_own_noise_level():
    """In training one batch holds many levels; the window decides for each."""
    unet, _, _, _ = in_training(window=(0.5, 1.0))
    latent, _, text = inputs()
    levels = torch.tensor([900, 100])
    guided = unet(latent, levels, text).sample
    remove_guidance(unet)
    adapted = unet(latent, levels, text).sample
    with adapter.disabled(unet):
        base = unet(latent, levels, text).sample
    assert torch.equal(guided[0], adapted[0])
    assert torch.equal(guided[1], base[1])


def test_learned_variances_go_over_without_a_step():
    """A denoiser with twice the channels: at 0 and 1 its whole output is one network's."""
    unet = tiny.unet(out_channels=8)
    adapter.add_lora(unet, 4, seed=0)
    tiny.move(unet)
    base, adapted = both(unet)
    assert base.shape[1] == 8
    guidance = add_guidance(unet)
    for strength, expected in (
        (0.0, base),
        (1.0, adapted),
        (0.25, torch.lerp(base, adapted, 0.25)),
    ):
        guidance.strength = strength
        torch.testing.assert_close(unet(*inputs()).sample, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_gradients_reach_every_adapter_tensor_through_the_hook(strength):
    unet, _, _, _ = in_training(strength=strength)
    unet(*inputs()).sample.square().mean().backward()
    assert all(each.grad.abs().sum() > 0 for each in adapter.parameters(unet))
    others = {id(each) for each in adapter.parameters(unet)}
    assert all(each.grad is None for each in unet.parameters() if id(each) not in others)


def test_removing_the_guidance_leaves_the_adapter():
    unet, _, _, adapted = in_training(strength=0.0)
    remove_guidance(unet)
    assert torch.equal(unet(*inputs()).sample, adapted)
    assert guidance_of(unet) is None
    with pytest.raises(ModelError, match="call add_guidance first"):
        remove_guidance(unet)


def test_a_guided_network_needs_an_adapter_and_only_one_hook():
    with pytest.raises(ModelError, match="call add_lora"):
        add_guidance(tiny.unet())
    unet, _, _, _ = in_training()
    with pytest.raises(ModelError, match="call remove_guidance first"):
        add_guidance(unet)


# Caches that answer a denoiser call with what an earlier one left (FirstBlockCache and its like)


def flux():
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=3, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
    ).eval()  # fmt: skip


def flux_inputs(level, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "hidden_states": torch.randn(1, 4, 4, generator=generator),
        "encoder_hidden_states": torch.randn(1, 3, 16, generator=generator),
        "pooled_projections": torch.randn(1, 16, generator=generator),
        "timestep": torch.tensor([level]),
        "img_ids": torch.zeros(4, 3),
        "txt_ids": torch.zeros(3, 3),
    }


def cached_walk(transformer):
    """Two steps of two calls each, as pipelines with separate branches make them."""
    outputs = []
    with torch.no_grad():
        for level, (branch, seed) in itertools.product((0.9, 0.89), (("cond", 0), ("uncond", 1))):
            with transformer.cache_context(branch):
                outputs.append(transformer(**flux_inputs(level, seed)).sample)
    return torch.cat(outputs)


def test_a_cache_does_not_eat_the_guidance():
    """Base and adapted passes of each branch keep caches of their own, as in networks apart."""

    def network(with_adapter):
        transformer = flux()
        if with_adapter:
            adapter.add_lora(transformer, 2, seed=0)
            tiny.move(transformer, size=0.3)
        transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
        return transformer

    base, adapted = cached_walk(network(False)), cached_walk(network(True))
    assert not torch.allclose(base, adapted, atol=1e-2)
    for strength in (0.5, 0.0, 1.0):
        guided = network(True)
        add_guidance(guided, strength, highest=1)
        expected = base + strength * (adapted - base)
        torch.testing.assert_close(cached_walk(guided), expected, rtol=1e-5, atol=1e-5)


def test_the_cache_config_really_skips_blocks():
    """Otherwise the test above would prove nothing."""
    transformer, calls = flux(), []
    transformer.transformer_blocks[1].attn.register_forward_hook(lambda *_: calls.append(1))
    cached_walk(transformer)
    assert len(calls) == 4
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    calls.clear()
    cached_walk(transformer)
    assert len(calls) < 4
