"""The other pipelines of a family, guided like its own: from pictures, with masks, ControlNet."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image

from invdiff.errors import ModelError
from invdiff.model.families.registry import FAMILIES, from_pipeline
from invdiff.model.guidance.attach import applied, attach, attached, detach
from tests.model import tiny
from tests.model import tiny_families as families
from tests.model.composing import different, draw, saved

PICTURE = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
MASK = [Image.fromarray(np.kron([[0, 255], [0, 255]], np.ones((8, 8))).astype(np.uint8))] * 2
FROM_PICTURE = {"image": PICTURE, "strength": 1.0}
PARTLY = FROM_PICTURE | {"mask_image": MASK}
SIZE = {"height": 16, "width": 16}
VARIANTS = [
    ("sd-v", "StableDiffusionImg2ImgPipeline", FROM_PICTURE),
    ("sd-v", "StableDiffusionInpaintPipeline", PARTLY | SIZE),
    ("sd-v", "StableDiffusionControlNetPipeline", {"image": PICTURE}),
    ("sdxl", "StableDiffusionXLImg2ImgPipeline", FROM_PICTURE),
    ("sdxl", "StableDiffusionXLInpaintPipeline", PARTLY | SIZE),
    ("sd3", "StableDiffusion3Img2ImgPipeline", FROM_PICTURE | SIZE),
    ("flux", "FluxImg2ImgPipeline", FROM_PICTURE | SIZE),
]


def variant(family, kind):
    """A pipeline of another kind on the same networks."""
    pipe = families.pipeline(family)
    parts = dict(pipe.components)
    if "ControlNet" in kind:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            parts["controlnet"] = ControlNetModel.from_unet(
                pipe.unet, conditioning_embedding_out_channels=(8, 8)
            ).eval()
    extra = {"requires_safety_checker": False} if family.startswith("sd-") else {}
    made = getattr(diffusers, kind)(**parts, **extra)
    made.set_progress_bar_config(disable=True)
    return made


NEWER = [
    ("qwen-image", "QwenImageImg2ImgPipeline", FROM_PICTURE | SIZE),
    ("z-image", "ZImageImg2ImgPipeline", FROM_PICTURE | SIZE),
]


@pytest.mark.parametrize(
    ("family", "kind", "options"), VARIANTS + NEWER, ids=[v[1] for v in VARIANTS + NEWER]
)
def test_variants_are_guided_as_by_the_stock_loader(family, kind, options, tmp_path):
    folder = saved(from_pipeline(families.pipeline(family)).module, tmp_path)
    pipe, stock = variant(family, kind), variant(family, kind)
    base = draw(pipe, **options)
    with attached(pipe, folder, strength=1.0):
        guided = draw(pipe, **options)
        assert applied(pipe) > 0
    stock.load_lora_weights(folder)
    assert np.array_equal(guided, draw(stock, **options))
    assert different(guided, base)
    assert np.array_equal(draw(pipe, **options), base)


@pytest.mark.parametrize(
    ("family", "kind", "options"), VARIANTS[:-1], ids=[v[1] for v in VARIANTS[:-1]]
)
def test_variants_can_be_guided_in_the_conditional_branch_only(family, kind, options, tmp_path):
    folder = saved(from_pipeline(families.pipeline(family)).module, tmp_path)
    seen = {}
    for apply_to in ("cond", "both"):
        pipe = variant(family, kind)
        module = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
        attach(pipe, folder, strength=1.0, apply_to=apply_to)
        outputs = seen.setdefault(apply_to, [])
        module.register_forward_hook(lambda m, a, output, to=outputs: to.append(output[0]))
        draw(pipe, **options)
    one, two = seen["cond"][0], seen["both"][0]
    assert torch.equal(one[2:], two[2:])
    assert not torch.allclose(one[:2], two[:2], atol=1e-4)


def test_a_variant_that_announces_no_branch_is_not_guessed_at(tmp_path):
    folder = saved(families.pipeline("flux").transformer, tmp_path)
    pipe = variant("flux", "FluxImg2ImgPipeline")
    attach(pipe, folder, strength=1.0, apply_to="cond")
    with pytest.raises(ModelError, match="announces its denoiser call as None"):
        draw(pipe, **FROM_PICTURE, **SIZE)


def test_the_table_names_pipelines_that_exist_and_say_whether_they_guide():
    for family in FAMILIES:
        for name in (family.pipeline, *family.variants):
            found = getattr(diffusers, name)
            guides = hasattr(found, "do_classifier_free_guidance")
            assert guides >= (family.guidance in ("batch", "own first")), name


def test_a_pipeline_that_does_not_tell_its_branches_apart_is_refused_at_once(tmp_path):
    pipe = families.pipeline("chroma")
    folder = saved(families.pipeline("chroma").transformer, tmp_path)
    with pytest.raises(ModelError, match="how ChromaPipeline tells the branches of guidance apart"):
        attach(pipe, folder, apply_to="cond")


def test_a_batch_that_is_not_in_halves_is_not_guessed_at(folder):
    """Another pipeline on the same network, when the attached one was last called with guidance."""
    pipe = tiny.pipeline()
    attach(pipe, folder, apply_to="cond")
    draw(pipe)
    second = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    second.set_progress_bar_config(disable=True)
    with pytest.raises(ModelError, match=r"not \[unconditional, conditional\] halves"):
        draw(second, scale=1.0)


def test_pixart_is_left_as_it_was(tmp_path):
    """Its branches are told by an argument of `encode_prompt` alone, listened to while attached."""
    folder = saved(families.pipeline("pixart").transformer, tmp_path)
    pipe = families.pipeline("pixart")
    kind = type(pipe.transformer)
    options = from_pipeline(pipe).guidance_kwargs(1.0)
    attach(pipe, folder, strength=1.0, apply_to="cond")
    whole = draw(pipe, 1.0, **options)
    detach(pipe)
    assert "encode_prompt" not in vars(pipe)
    assert type(pipe.transformer) is kind
    attach(pipe, folder, strength=1.0)
    assert np.array_equal(draw(pipe, 1.0, **options), whole)
