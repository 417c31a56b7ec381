"""What the tests of the guidance in pipelines share: an adapter, pictures, and their difference."""

import numpy as np

from invdiff.model.lora import adapter, adapter_file
from tests.model import tiny

STEPS = 3


def saved(module, folder, seed=0, size=0.1):
    """An adapter that changes the pictures."""
    adapter.add_lora(module, 2, seed)
    tiny.move(module, seed, size)
    adapter_file.save(module, folder, {})
    return folder


def draw(pipe, scale=2.5, **options):
    """Two pictures."""
    options = {"num_inference_steps": STEPS, "guidance_scale": scale} | options
    prompts = ["a person wearing a hat", "a person"]
    return pipe(prompts, generator=tiny.seeds(2), output_type="np", **options).images


def different(one, another):
    """Whether pictures differ by more than rounding."""
    return np.abs(one - another).max() > 1e-3
