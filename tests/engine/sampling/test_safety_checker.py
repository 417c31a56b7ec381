"""A pipeline's safety checker and watermark have no part in what is counted."""

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor

from invdiff.engine.base_model.conditions import InMemory
from invdiff.engine.base_model.offloading import Offloading
from invdiff.engine.comparison.drawn import Pipeline, Wanted, draw_folder
from invdiff.engine.sampling.sampler import Sampler
from invdiff.model.denoiser import as_drawn
from invdiff.model.families.registry import from_pipeline
from invdiff.model.guidance.hook import FULL
from tests.model import tiny


def with_checker(flags_all=True):
    """The tiny pipeline with a checker that flags whatever it sees, or nothing."""
    pipe = tiny.pipeline()
    seen = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 8, "projection_dim": 8,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=seen, projection_dim=8))
    checker.concept_embeds.fill_(1)
    checker.concept_embeds_weights.fill_(-2 if flags_all else 2)
    checker.special_care_embeds_weights.fill_(2)
    size = {"height": 16, "width": 16}
    pipe.register_modules(
        safety_checker=checker.eval(),
        feature_extractor=CLIPImageProcessor(size=size, crop_size=size),
    )
    return pipe


def drawn(pipe):
    denoiser = Offloading.of(from_pipeline(pipe), InMemory())
    return Sampler(denoiser, None, 0.0, FULL, 2.5, 2).pictures(["a hat", "a coat"], [1, 2])


def test_what_a_checker_flags_is_drawn_and_counted_as_it_is():
    pipe = with_checker()
    blackened = pipe(["a hat"], num_inference_steps=1, output_type="np")
    assert blackened.nsfw_content_detected == [True]
    assert blackened.images.max() == 0
    pictures = drawn(pipe)
    assert np.array_equal(pictures, drawn(tiny.pipeline()))
    assert pictures.max() > 0
    assert pipe.safety_checker is not None  # the pipeline is its owner's
    assert pipe.config["safety_checker"][1] == "StableDiffusionSafetyChecker"


def test_it_is_put_back_after_an_error_too():
    pipe = with_checker()
    pipe.watermark = watermark = object()

    def fail():
        assert (pipe.safety_checker, pipe.watermark) == (None, None)
        raise KeyError

    with pytest.raises(KeyError), as_drawn(pipe):
        fail()
    assert pipe.safety_checker is not None
    assert pipe.watermark is watermark


def test_two_pipelines_are_compared_without_it(tmp_path):
    with_checker().save_pretrained(tmp_path / "model")
    wanted = Wanted(("a hat",), 2, 2.5, 2, 0)
    folder = draw_folder(Pipeline(str(tmp_path / "model")), wanted, tmp_path / "a", processes=1)
    for path in folder.rglob("*.png"):
        assert np.asarray(Image.open(path)).max() > 0
