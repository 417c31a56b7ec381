"""The hook on a stock pipeline: exact ends, the formula between, never silently absent."""

import numpy as np
import pytest
import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import nn

from invdiff.errors import ModelError
from invdiff.model.denoiser import denoiser_module
from invdiff.model.guidance.attach import (
    applied,
    attach,
    attached,
    detach,
    set_strength,
    verify_applied,
)
from invdiff.model.guidance.hook import guidance_of
from invdiff.model.lora import adapter, adapter_file
from tests.model import tiny
from tests.model.composing import STEPS, draw


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An adapter that changes the pictures, its recommended strength 0.5."""
    folder = tmp_path_factory.mktemp("adapter")
    unet = tiny.pipeline().unet
    adapter.add_lora(unet, 4, seed=0)
    tiny.move(unet)
    adapter_file.save(unet, folder, {"recommended_strength": 0.5})
    return folder


@pytest.fixture(scope="module")
def stock(folder):
    """What the stock LoRA loader makes of the adapter."""
    pipe = tiny.pipeline()
    pipe.load_lora_weights(folder)
    return draw(pipe)


# Pictures of the whole pipeline


def test_the_adapter_changes_the_pictures(base, stock):
    assert np.abs(base - stock).max() > 0.01


def test_strength_zero_is_the_base(pipe, folder, base):
    attach(pipe, folder, strength=0)
    assert np.array_equal(draw(pipe), base)
    assert applied(pipe) == 0
    verify_applied(pipe)


def test_a_fresh_adapter_is_the_base(pipe, tmp_path, base):
    unet = tiny.pipeline().unet
    adapter.add_lora(unet, 4, seed=0)
    adapter_file.save(unet, tmp_path, {})
    attach(pipe, tmp_path)
    assert np.array_equal(draw(pipe), base)
    set_strength(pipe, 1.7)
    assert np.array_equal(draw(pipe), base)


def test_strength_one_is_the_stock_lora(pipe, folder, stock):
    attach(pipe, folder, strength=1)
    assert np.array_equal(draw(pipe), stock)
    assert applied(pipe) == STEPS


def test_detaching_restores_the_base(pipe, folder, base):
    keys = list(pipe.unet.state_dict())
    attach(pipe, folder, strength=1.7)
    draw(pipe)
    detach(pipe)
    assert np.array_equal(draw(pipe), base)
    assert list(pipe.unet.state_dict()) == keys
    assert not pipe.unet._forward_hooks
    assert not pipe.unet._forward_pre_hooks
    attach(pipe, folder)  # and it can be attached again


def test_no_strength_means_the_recommended_one(pipe, folder, tmp_path):
    attach(pipe, folder)
    recommended = draw(pipe)
    set_strength(pipe, 0.5)
    assert np.array_equal(draw(pipe), recommended)
    assert guidance_of(pipe.unet).strength == 0.5
    detach(pipe)
    adapter.add_lora(pipe.unet, 4, seed=0)
    adapter_file.save(pipe.unet, tmp_path, {})
    adapter.remove(pipe.unet)
    attach(pipe, tmp_path)
    assert guidance_of(pipe.unet).strength == 1.0


def test_strength_can_change_between_steps(pipe, folder, base, stock):
    """Guided in the first step only: neither the base nor the LoRA; in all steps: the LoRA."""

    def change(to):
        def at_step_end(pipe, step, timestep, values):
            set_strength(pipe, to)
            return values

        return at_step_end

    attach(pipe, folder, strength=1)
    first_only = draw(pipe, callback_on_step_end=change(0.0))
    assert applied(pipe) == 1
    assert not np.array_equal(first_only, base)
    assert not np.array_equal(first_only, stock)
    set_strength(pipe, 1.0)
    assert np.array_equal(draw(pipe, callback_on_step_end=change(1.0)), stock)


def test_the_window_chooses_steps_by_their_noise_level(pipe, folder, base, stock):
    timesteps = [667, 334, 1]  # of three steps
    pipe.scheduler.set_timesteps(STEPS)
    assert pipe.scheduler.timesteps.tolist() == timesteps
    counts = {(0.5, 1.0): 1, (0.3, 1.0): 2, (0.0, 0.1): 1, (0.0, 1.0): 3, (0.9, 1.0): 0}
    for window, count in counts.items():
        with_window = tiny.pipeline()
        attach(with_window, folder, strength=1, window=window)
        pictures = draw(with_window)
        assert applied(with_window) == count
        assert np.array_equal(pictures, base) == (count == 0)
        assert np.array_equal(pictures, stock) == (count == STEPS)


def test_conditional_only(pipe, folder, base, stock):
    """The unconditional half of each batch stays the base's; at scale 1 there is no such half."""
    batches = []

    def keep(module, args, output):
        batches.append(output[0].clone())

    attach(pipe, folder, strength=1, apply_to="cond")
    pipe.unet.register_forward_hook(keep)
    pictures = draw(pipe, num_inference_steps=1)
    plain, lora = tiny.pipeline(), tiny.pipeline()
    lora.load_lora_weights(folder)
    for each in (plain, lora):
        each.unet.register_forward_hook(keep)
        draw(each, num_inference_steps=1)
    guided, of_base, of_lora = batches
    assert torch.equal(guided[:2], of_base[:2])
    assert torch.equal(guided[2:], of_lora[2:])
    assert not np.array_equal(pictures, draw(lora, num_inference_steps=1))
    assert np.array_equal(draw(pipe, scale=1.0), draw(lora, scale=1.0))


# Never silently absent


class Idle(ModelHook):
    """Another library's hook that has a forward of its own."""

    def new_forward(self, module, *args, **kwargs):
        return self.fn_ref.original_forward(*args, **kwargs)


def test_a_dropped_hook_stops_the_pipeline(pipe, folder):
    attach(pipe, folder)
    pipe.unet.forward = type(pipe.unet).forward.__get__(pipe.unet)
    with pytest.raises(ModelError, match="dropped the guidance"):
        draw(pipe)


def test_a_hook_dropped_by_removing_an_older_one_stops_the_pipeline(pipe, folder):
    """The registry of diffusers rewires the next hook to the removed one's forward."""
    HookRegistry.check_if_exists_or_initialize(pipe.unet).register_hook(Idle(), "older")
    attach(pipe, folder)
    draw(pipe)
    pipe.unet._diffusers_hook.remove_hook("older")
    with pytest.raises(ModelError, match="dropped the guidance"):
        draw(pipe)


def test_a_run_that_never_reached_the_denoiser_is_found(pipe, folder):
    attach(pipe, folder)
    with pytest.raises(ModelError, match="never called through the guidance"):
        verify_applied(pipe)
    attached_unet, pipe.unet = pipe.unet, tiny.pipeline().unet
    draw(pipe)
    with pytest.raises(ModelError, match=r"call attach\(pipe, folder\) first"):
        verify_applied(pipe)
    pipe.unet = attached_unet
    draw(pipe)
    verify_applied(pipe)


def test_a_window_without_any_step_is_found(pipe, folder):
    attach(pipe, folder, window=(0.9, 1.0))
    draw(pipe)
    with pytest.raises(ModelError, match=r"none of the 3 denoising steps .* widen the window"):
        verify_applied(pipe)


def test_attached_verifies_and_detaches(pipe, folder, base, stock):
    with attached(pipe, folder, strength=1) as guided:
        assert np.array_equal(draw(guided), stock)
    assert np.array_equal(draw(pipe), base)
    with pytest.raises(ModelError, match="never called"), attached(pipe, folder):
        pass
    with pytest.raises(KeyError), attached(pipe, folder):
        raise KeyError
    assert np.array_equal(draw(pipe), base)


# Mistakes


def test_attaching_twice_names_detach(pipe, folder, base):
    attach(pipe, folder)
    with pytest.raises(ModelError, match=r"call detach\(pipe\) first"):
        attach(pipe, folder)
    detach(pipe)
    for action in (detach, applied, verify_applied, lambda pipe: set_strength(pipe, 1.0)):
        with pytest.raises(ModelError, match=r"call attach\(pipe, folder\) first"):
            action(pipe)
    assert np.array_equal(draw(pipe), base)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": float("nan")}, "finite at every noise level"),
        ({"strength": [1.0]}, "a sequence needs two numbers"),
        ({"strength": lambda level: 1 / (1 - level)}, "function of the noise level that gives one"),
        ({"strength": lambda level: None}, "function of the noise level that gives one"),
        ({"strength": "much"}, "a number, a sequence of numbers, or a function"),
        ({"window": (0.6, 0.5)}, "0 <= start <= stop <= 1"),
        ({"window": (0.0, 1.5)}, "0 <= start <= stop <= 1"),
        ({"apply_to": "uncond"}, "'both' or 'cond'"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_changes(pipe, folder, options, message):
    with pytest.raises(ModelError, match=message):
        attach(pipe, folder, **options)
    assert not adapter.has_adapter(pipe.unet)


def test_an_adapter_of_another_network_is_refused_by_name(folder, base):
    pipe = tiny.pipeline()
    pipe.unet = tiny.unet(channels=(8, 16))
    with pytest.raises(ModelError, match=r"another network.*conv1.lora_A.*UNet2D|UNet2D.*conv1"):
        attach(pipe, folder)
    assert guidance_of(pipe.unet) is None


def test_pipelines_that_cannot_be_guided_are_named(pipe, folder):
    class OtherPipeline:
        unet = pipe.unet
        scheduler = pipe.scheduler

    with pytest.raises(ModelError, match="apply_to='both' with OtherPipeline"):
        attach(OtherPipeline(), folder, apply_to="cond")
    with pytest.raises(ModelError, match="no unet and no transformer"):
        denoiser_module(nn.Sequential())


def test_offloading_comes_after_attaching_and_goes_before_detaching(pipe, folder, base):
    from accelerate.hooks import ModelHook as AccelerateHook
    from accelerate.hooks import add_hook_to_module, remove_hook_from_module

    add_hook_to_module(pipe.unet, AccelerateHook())
    with pytest.raises(ModelError, match=r"remove_all_hooks\(\), then attach"):
        attach(pipe, folder)
    remove_hook_from_module(pipe.unet)
    attach(pipe, folder, strength=1)
    add_hook_to_module(pipe.unet, AccelerateHook())
    draw(pipe)
    verify_applied(pipe)
    with pytest.raises(ModelError, match=r"remove_all_hooks\(\), then detach"):
        detach(pipe)
    remove_hook_from_module(pipe.unet)
    detach(pipe)
    assert np.array_equal(draw(pipe), base)


def test_a_damaged_strength_is_not_taken(pipe, folder, tmp_path):
    content = (folder / adapter_file.FILE).read_bytes()
    changed = content.replace(b'recommended_strength\\": 0.5', b'recommended_strength\\": 0.6')
    assert changed != content
    (tmp_path / adapter_file.FILE).write_bytes(changed)
    with pytest.raises(ModelError, match="is damaged"):
        attach(pipe, tmp_path)
