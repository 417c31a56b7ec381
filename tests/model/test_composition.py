"""The guidance together with what else people do to a pipeline: the same pictures, or an error."""

import inspect

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, FirstBlockCacheConfig
from PIL import Image

from invdiff.errors import ModelError
from invdiff.model import adapter, adapter_file
from invdiff.model.attach import applied, attach, attached, detach, set_strength
from invdiff.model.denoiser import from_pipeline
from invdiff.model.families import FAMILIES
from invdiff.model.hook import guidance_of
from tests.model import tiny
from tests.model import tiny_families as families

STEPS = 3


def saved(module, folder, seed=0, size=0.1):
    """An adapter that changes the pictures."""
    adapter.add_lora(module, 2, seed)
    tiny.move(module, seed, size)
    adapter_file.save(module, folder, {})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tiny.pipeline().unet, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Somebody else's LoRA for the same model."""
    return saved(tiny.pipeline().unet, tmp_path_factory.mktemp("other"), seed=1)


def draw(pipe, scale=2.5, **options):
    options = {"num_inference_steps": STEPS, "guidance_scale": scale} | options
    prompts = ["a person wearing a hat", "a person"]
    return pipe(prompts, generator=tiny.seeds(2), output_type="np", **options).images


def different(one, another):
    return np.abs(one - another).max() > 1e-3


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


# The other pipelines of a family

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


@pytest.mark.parametrize(("family", "kind", "options"), VARIANTS, ids=[v[1] for v in VARIANTS])
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
            assert guides == (family.guidance == "batch"), name


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
    options = from_pipeline(pipe).call_options(1.0)
    attach(pipe, folder, strength=1.0, apply_to="cond")
    whole = draw(pipe, 1.0, **options)
    detach(pipe)
    assert "encode_prompt" not in vars(pipe)
    assert type(pipe.transformer) is kind
    attach(pipe, folder, strength=1.0)
    assert np.array_equal(draw(pipe, 1.0, **options), whole)


# Strength that follows the noise level


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


@pytest.mark.parametrize("name", ["sd3", "flux", "pixart", "sana", "sdxl"])
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
    options = from_pipeline(plain := cached()).call_options(2.5) | {"num_inference_steps": 8}
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
