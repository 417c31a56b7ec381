"""The guidance together with what else people do to a pipeline: the same pictures, or an error."""

import inspect

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig

from invdiff.errors import ModelError
from invdiff.model.families.registry import from_pipeline
from invdiff.model.guidance.attach import attach, detach, set_strength
from invdiff.model.guidance.hook import guidance_of
from tests.model import tiny
from tests.model import tiny_families as families
from tests.model.composing import different, draw, saved


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Somebody else's LoRA for the same model."""
    return saved(tiny.pipeline().unet, tmp_path_factory.mktemp("other"), seed=1)


# Other LoRAs


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.parametrize("order", ["before", "after"])
def test_another_lora_stays_in_force_whenever_it_was_loaded(folder, other, order):
    plain, both, pipe = (tiny.pipeline() for _ in range(3))
    plain.load_lora_weights(other, adapter_name="other")
    both.load_lora_weights(other, adapter_name="other")
    both.load_lora_weights(folder, adapter_name="ours")
    both.set_adapters(["other", "ours"])
    if order == "before":
        pipe.load_lora_weights(other, adapter_name="other")
    attach(pipe, folder, strength=1.0)
    if order == "after":
        pipe.load_lora_weights(other, adapter_name="other")
    assert np.array_equal(draw(pipe), draw(both))
    set_strength(pipe, 0.0)
    assert np.array_equal(draw(pipe), draw(plain))
    detach(pipe)
    assert np.array_equal(draw(pipe), draw(plain))
    assert different(draw(plain), draw(both))


def test_unloading_or_fusing_the_guidance_away_stops_the_pipeline(folder):
    pipe = tiny.pipeline()
    attach(pipe, folder)
    pipe.fuse_lora()
    with pytest.raises(ModelError, match="a LoRA is fused into the weights"):
        draw(pipe)
    pipe.unfuse_lora()
    draw(pipe)
    pipe.unload_lora_weights()
    with pytest.raises(ModelError, match="has no InvDiff adapter"):
        draw(pipe)


def test_switching_loras_off_does_not_switch_the_guidance_off(folder):
    """`detach` does; `disable_lora` would leave a guidance that silently does nothing."""
    pipe = tiny.pipeline()
    attach(pipe, folder, strength=1.0)
    guided = draw(pipe)
    pipe.disable_lora()
    assert np.array_equal(draw(pipe), guided)


# Compiling, casting, caching


def test_attaching_leaves_the_signature_of_the_network(folder):
    """Pipelines and exporters read it; the hooks of diffusers before 0.40 hid it."""
    pipe = tiny.pipeline()
    before = inspect.signature(pipe.unet.forward)
    attach(pipe, folder)
    assert inspect.signature(pipe.unet.forward) == before


def test_a_whole_cached_flux_is_guided_in_both_branches(tmp_path):
    """First-block caching through the pipeline's own announcements, against stock LoRA and base."""

    def cached():
        pipe = families.pipeline("flux", guidance_embeds=False)
        pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
        return pipe

    saved(families.pipeline("flux", guidance_embeds=False).transformer, tmp_path, size=0.3)
    options = from_pipeline(plain := cached()).guidance_kwargs(2.5) | {"num_inference_steps": 8}
    stock, pipe, early = cached(), cached(), families.pipeline("flux", guidance_embeds=False)
    stock.load_lora_weights(tmp_path)
    attach(pipe, tmp_path, strength=1.0)
    attach(early, tmp_path, strength=1.0)
    early.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    guided, base = draw(stock, **options), draw(plain, **options)
    assert different(guided, base)
    for each in (pipe, early):
        set_strength(each, 1.0)
        assert np.array_equal(draw(each, **options), guided)
        set_strength(each, 0.0)
        assert np.array_equal(draw(each, **options), base)


@pytest.mark.parametrize("first", ["compile", "attach"])
def test_compiled_networks_are_guided(first, tmp_path):
    """With a backend that runs the graphs as they are; one graph must hold the whole network."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    saved(families.pipeline("pixart").transformer, tmp_path)
    plain, pipe = families.pipeline("pixart"), families.pipeline("pixart")
    if first == "attach":
        attach(pipe, tmp_path)
    pipe.transformer = torch.compile(pipe.transformer, backend=backend)
    if first == "compile":
        attach(pipe, tmp_path)
    attach(plain, tmp_path)
    inputs = torch.randn(1, 4, tiny.LATENT, tiny.LATENT), torch.tensor([500])
    told = from_pipeline(plain).encode_prompts(["a hat"])
    for strength in (1.0, 0.5, 0.0, -0.5):
        set_strength(pipe, strength)
        set_strength(plain, strength)
        with torch.no_grad():
            one, two = (from_pipeline(each).predict(*inputs, told) for each in (pipe, plain))
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)
    assert max(graphs) > 100
    assert guidance_of(pipe.transformer._orig_mod).calls == 4
    torch.compiler.reset()


def test_weights_stored_in_eight_bits_are_guided(folder):
    """Layerwise casting before or after attaching; against networks that were rounded by hand."""

    def cast(pipe):
        pipe.unet.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
        return pipe

    stored = cast(tiny.pipeline()).unet.state_dict()
    rounded, stock = tiny.pipeline(), tiny.pipeline()
    rounded.unet.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    base = draw(rounded)
    rounded.load_lora_weights(folder)
    stock.load_lora_weights(folder)
    early, late = cast(tiny.pipeline()), tiny.pipeline()
    attach(early, folder, strength=1.0)
    attach(late, folder, strength=1.0)
    assert np.array_equal(draw(early), draw(rounded))
    assert np.array_equal(draw(cast(late)), draw(cast(stock)))
    assert different(draw(late), base)
    for pipe in (early, late):
        set_strength(pipe, 0.0)
        assert np.array_equal(draw(pipe), base)
