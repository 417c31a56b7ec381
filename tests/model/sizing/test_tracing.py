"""Memory and operations on the meta device, against what can be worked out by hand."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from invdiff.errors import ModelError
from invdiff.model.sizing import description, shapes
from invdiff.model.sizing.description import Component, Description
from invdiff.model.sizing.shapes import trace
from tests.model import tiny
from tests.model.tiny_pipelines import DENOISERS

FLOAT = 4


class Mlp(nn.Module):
    """Two layers whose tensors can be counted: hidden (n, 64), result (n, 8)."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(32, 64, device="meta"), nn.Linear(64, 8, device="meta")

    def forward(self, x):
        return self.down(self.up(x))


@pytest.mark.parametrize("batch", [1, 10])
def test_operations_and_forward_memory_of_two_layers(batch):
    inputs, module = torch.empty(batch, 32, device="meta"), Mlp()
    found = trace(module, lambda: module(inputs))
    assert found.operations == 2 * batch * (32 * 64 + 64 * 8)
    assert found.peak == FLOAT * batch * (64 + 8)  # both results are alive together


def test_what_is_freed_is_counted_no_more():
    inputs = torch.empty(1000, device="meta")

    def call():
        x = inputs
        for _ in range(10):
            x = x + 1
        return x

    assert trace(nn.Identity(), call).peak == 2 * FLOAT * 1000


@pytest.mark.parametrize("batch", [5, 5000])
def test_the_backward_pass_keeps_every_step_and_makes_every_gradient(batch):
    """Ten layers of 100 x 100: gradients count where batches are small, else what is kept."""
    module = nn.Sequential(*(nn.Linear(100, 100, bias=False, device="meta") for _ in range(10)))
    inputs = torch.empty(batch, 100, device="meta")
    forward = trace(module, lambda: module(inputs)).peak
    training = trace(module, lambda: module(inputs), backward=True).peak
    kept, gradients = 10 * FLOAT * batch * 100, 10 * FLOAT * 100 * 100
    assert forward < 0.4 * kept
    assert max(kept, gradients) < training < 1.4 * max(kept, gradients)
    assert all(weight.grad is None for weight in module.parameters())


def test_attention_is_counted_without_its_matrix():
    query = torch.empty(2, 4, 1000, 16, device="meta", requires_grad=True)
    found = trace(nn.Identity(), lambda: scaled_dot_product_attention(query, query, query), True)
    assert found.operations == 4 * 2 * 4 * 1000 * 1000 * 16
    assert found.peak < 10 * FLOAT * query.numel() < FLOAT * 2 * 4 * 1000 * 1000


def test_memory_is_in_proportion_to_the_batch():
    """One picture is traced where no gradients are needed; the batch multiplies it."""
    base = description.of_pipeline(tiny.pipeline())
    module = shapes.build(base.denoiser)
    size = base.image_size
    one, eight = (
        trace(module, shapes.call(module, base, batch, size, torch.float32)) for batch in (1, 8)
    )
    assert eight.peak == pytest.approx(8 * one.peak, rel=0.01)
    assert eight.operations == pytest.approx(8 * one.operations, rel=0.01)


def test_what_is_traced_is_what_is_computed():
    """The shapes of the meta device against the real network's result."""
    pipe = tiny.pipeline()
    base = description.of_pipeline(pipe)
    call = shapes.call(pipe.unet.to("meta"), base, 3, base.image_size, torch.float32)
    assert call()[0].shape == (3, 4, tiny.LATENT, tiny.LATENT)


@pytest.mark.parametrize("family", sorted(DENOISERS))
def test_every_family_is_traced(family):
    module = DENOISERS[family]().to("meta")
    name = "unet" if "UNet" in type(module).__name__ else "transformer"
    part = Component("diffusers", type(module).__name__, dict(module.config))
    base = Description("Pipeline", {name: part}, "a test")
    built = shapes.build(part)
    assert built.num_parameters() == sum(each.numel() for each in module.parameters())
    found = trace(built, shapes.call(built, base, 1, 64, torch.float32))
    assert found.operations > 1e5
    assert found.peak > 1e4


def test_a_family_that_is_not_known_is_named():
    base = Description(
        "Pipeline", {"transformer": Component("diffusers", "OddModel", {})}, "a test"
    )
    with pytest.raises(ModelError, match="what OddModel takes is not known"):
        shapes.call(nn.Identity(), base, 1, 64, torch.float32)


def test_tokenizers_and_schedulers_have_no_weights():
    assert shapes.build(Component("transformers", "CLIPTokenizer", {})) is None
    assert shapes.build(Component("diffusers", "DDIMScheduler", {})) is None
    assert shapes.build(Component("elsewhere", "Thing", {})) is None


def test_guidance_is_an_input_of_flux_dev_alone():
    flux = "FluxTransformer2DModel"
    assert shapes.guided_in_one_pass(Component("diffusers", flux, {"guidance_embeds": True}))
    assert not shapes.guided_in_one_pass(Component("diffusers", flux, {"guidance_embeds": False}))
    assert not shapes.guided_in_one_pass(Component("diffusers", "UNet2DConditionModel", {}))
