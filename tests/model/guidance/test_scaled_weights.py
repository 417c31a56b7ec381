"""A strength that scales the adapter's weights: what a file does at that weight."""

import numpy as np
import pytest

from invdiff.errors import ModelError
from invdiff.model.guidance.attach import (
    applied,
    attach,
    detach,
    set_strength,
)
from invdiff.model.guidance.hook import guidance_of
from invdiff.model.lora import adapter, adapter_file
from tests.model import tiny
from tests.model.composing import STEPS, draw


def scaled_stock(folder, weight):
    """What the stock loader makes of a file at a weight, in units of the trained adapter."""
    pipe = tiny.pipeline()
    adapter_file.load(pipe.unet, folder)
    adapter.with_methods(pipe.unet).set_adapters([adapter.NAME], [weight])
    return draw(pipe)


@pytest.mark.parametrize("strength", [-0.5, 0.5, 1.5])
def test_scaled_weights_are_those_of_a_lora_in_one_pass(pipe, folder, strength):
    passes = []
    pipe.unet.conv_in.register_forward_hook(lambda *_: passes.append(1))
    attach(pipe, folder, strength=strength, scaled="weights")
    assert np.abs(draw(pipe) - scaled_stock(folder, strength)).max() < 1e-5
    assert len(passes) == STEPS
    set_strength(pipe, 1.0)
    assert np.array_equal(draw(pipe), scaled_stock(folder, 1.0))
    detach(pipe)
    assert np.array_equal(draw(pipe), draw(tiny.pipeline()))


def test_scaled_weights_keep_to_the_window_and_the_branch(pipe, folder, base):
    attach(pipe, folder, strength=1.5, scaled="weights", window=(0.5, 1.0), apply_to="cond")
    inside = draw(pipe)
    assert applied(pipe) == 1
    assert not np.array_equal(inside, base)
    set_strength(pipe, [0.0, 0.0])
    assert np.array_equal(draw(pipe), base)


def test_the_file_says_what_its_strength_scales(pipe, folder, tmp_path):
    attach(pipe, folder)
    assert guidance_of(pipe.unet).scaled == "prediction", "as before there was a choice"
    detach(pipe)
    adapter.add_lora(pipe.unet, 4, seed=0)
    adapter_file.save(pipe.unet, tmp_path, {"strength_scales": "weights"})
    adapter.remove(pipe.unet)
    attach(pipe, tmp_path)
    assert guidance_of(pipe.unet).scaled == "weights"
    detach(pipe)
    with pytest.raises(ModelError, match=r"scaled is 'both'; it must be 'weights' or"):
        attach(pipe, folder, scaled="both")


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_damaged_adapter_is_not_attached(pipe, folder, tmp_path, at):
    """Of an adapter folder on its own there is no record of a run to compare with."""
    content = bytearray((folder / adapter_file.FILE).read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    content[header + int(at * (len(content) - header))] ^= 1
    (tmp_path / adapter_file.FILE).write_bytes(content)
    with pytest.raises(ModelError, match="is damaged: its hash is another"):
        attach(pipe, tmp_path)
    attach(pipe, folder)
