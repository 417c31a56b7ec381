"""Strengths other than one number above 0: one that follows the noise level, and below 0."""

import numpy as np
import pytest
import torch

from invdiff.errors import ModelError
from invdiff.model.families.registry import from_pipeline
from invdiff.model.guidance.attach import attach, set_strength
from tests.model import tiny
from tests.model import tiny_families as families
from tests.model.composing import STEPS, different, draw, saved


def test_a_strength_that_follows_the_level_is_that_of_each_step(folder):
    """Against strengths set by hand before each step, for a function and for a sequence."""
    pipe = tiny.pipeline()
    attach(pipe, folder, strength=1.0)
    pipe.scheduler.set_timesteps(STEPS)
    levels = [t / 999 for t in pipe.scheduler.timesteps.tolist()]

    def by_hand(strength):
        def then(pipe, step, timestep, values):
            if step + 1 < STEPS:
                set_strength(pipe, strength(levels[step + 1]))
            return values

        set_strength(pipe, strength(levels[0]))
        return draw(pipe, callback_on_step_end=then)

    for follows, number in (
        (lambda level: 2 * level - 0.5, lambda level: 2 * level - 0.5),
        ([0.0, 2.0], lambda level: 2 * level),
        ([-1.0, 0.0, 1.0], lambda level: 2 * level - 1),
    ):
        expected = by_hand(number)
        set_strength(pipe, follows)
        assert np.abs(draw(pipe) - expected).max() < 1e-5
        set_strength(pipe, number(levels[0]))
        assert different(draw(pipe), expected)


@pytest.mark.parametrize("name", sorted({*families.BUILDERS} - {"sd-v", "sd-epsilon"}))
def test_the_level_that_a_strength_is_asked_for_is_the_schedules(name, tmp_path):
    pipe, asked = families.pipeline(name), []
    model = from_pipeline(pipe)
    saved(from_pipeline(families.pipeline(name)).module, tmp_path)
    attach(pipe, tmp_path, strength=lambda level: asked.append(level) or 1.0)
    asked.clear()
    latent = torch.randn(3, *latent_shape(model))
    levels = [0.25, 0.9, 1.0]
    steps = torch.tensor([model.schedule.timestep(level) for level in levels])
    with torch.no_grad():
        model.predict(latent, steps, model.encode_prompts(["a", "b", ""]))
    assert asked == pytest.approx(levels, abs=6e-4)


def test_a_strength_that_is_no_number_at_some_level_stops_the_pipeline(folder):
    pipe = tiny.pipeline()
    attach(pipe, folder, strength=lambda level: 1.0 if level in (0.0, 0.5, 1.0) else float("nan"))
    with pytest.raises(ModelError, match=r"the strength at noise level \[0.66.* is \[nan\]"):
        draw(pipe)


def test_negative_strength_mirrors_the_guidance(folder):
    """Around the base: for the network's prediction, not for the pictures of many steps."""
    pipe = tiny.pipeline()
    model = from_pipeline(pipe)
    latent, told = torch.randn(1, 4, tiny.LATENT, tiny.LATENT), model.encode_prompts(["a hat"])
    attach(pipe, folder)
    seen = {}
    for strength in (-1.0, 0.0, 1.0):
        set_strength(pipe, strength)
        with torch.no_grad():
            seen[strength] = model.predict(latent, torch.tensor([500]), told)
    torch.testing.assert_close(seen[-1.0] - seen[0.0], seen[0.0] - seen[1.0], rtol=1e-4, atol=1e-5)


def latent_shape(model):
    size = model.image_size
    return model.encode_images(np.zeros((1, size, size, 3), np.uint8)).shape[1:]
