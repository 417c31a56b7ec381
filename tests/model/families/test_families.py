"""Each family's denoiser says what the pipeline's own call says, to the bit where it can."""

import numpy as np
import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
)
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

from invdiff.core.diffusion.schedule import add_noise
from invdiff.engine.base_model.offloading import require_drawable
from invdiff.errors import ModelError
from invdiff.model.denoiser import Condition
from invdiff.model.families.registry import from_pipeline
from invdiff.model.families.transformers import packed, token_map, unpacked
from invdiff.model.lora import adapter
from tests.model import tiny
from tests.model import tiny_families as families

NAMES = list(families.BUILDERS)
PROMPTS = ["a hat", "a coat, seen from afar"]
FLOWS = ("sd3", "flux", "sana", "qwen-image", "z-image", "flux2-klein")
BY_CHANNEL = ("qwen-image", "flux2", "flux2-klein")
"""Their latents have a mean and a spread for each channel: see `test_stock_pipelines.py`."""


def denoiser(name, **options):
    return from_pipeline(families.pipeline(name, **options))


def pictures(model, count=2):
    size = model.image_size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def draw(model, scale=1.0, kind="latent", steps=1):
    options = model.guidance_kwargs(scale) | {"num_inference_steps": steps, "output_type": kind}
    return model.pipeline(prompt=list(PROMPTS), generator=tiny.seeds(2), **options).images


# What the network is asked, and what it answers


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_stays_within_the_network(name):
    """What is around it counts in float32: it hands over a latent and takes a prediction in it."""
    full = denoiser(name)
    latent = torch.randn_like(full.encode_images(pictures(full)), dtype=torch.float32)
    said = []
    for dtype in (torch.float32, torch.bfloat16):
        model = from_pipeline(full.pipeline.to(dtype))
        told = model.encode_prompts(PROMPTS)
        with torch.no_grad():
            said.append(model.predict(latent, torch.tensor([300, 300]), told))
    assert [one.dtype for one in said] == [torch.float32] * 2
    distance = (said[0] - said[1]).norm() / said[0].norm()
    assert 0 < distance < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_depends_on_its_own_row_only(name):
    model = denoiser(name)
    latent = torch.randn(2, *model.encode_images(pictures(model)).shape[1:])
    told, timestep = model.encode_prompts(PROMPTS), torch.tensor([900, 100])
    with torch.no_grad():
        both = model.predict(latent, timestep, told)
        alone = model.predict(latent[1:], timestep[1:], told[[1]])
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


# Latents


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BY_CHANNEL])
def test_latents_have_the_scale_at_which_the_pipeline_draws(name, monkeypatch):
    """What the pipeline does to its latents before decoding undoes what `encode_images` did."""
    model, decoded = denoiser(name), []
    vae = model.pipeline.vae
    original = vae.decode
    monkeypatch.setattr(vae, "decode", lambda z, **k: decoded.append(z) or original(z, **k))
    drawn = model.unpack_latents(draw(model)).double().flatten()
    draw(model, kind="np")
    line = torch.stack([drawn, torch.ones_like(drawn)], 1)
    scale, shift = torch.linalg.lstsq(line, decoded[0].double().flatten()).solution.tolist()
    shown = pictures(model)
    with torch.no_grad():
        encoded = vae.encode(torch.from_numpy(shown).permute(0, 3, 1, 2) / 127.5 - 1)
    plain = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latent
    again = model.encode_images(shown) * scale + shift
    torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-4)


def test_means_and_spreads_of_an_autoencoder_are_heeded():
    model = denoiser("sdxl")
    plain = model.encode_images(pictures(model))
    mean, spread = [0.1, -0.2, 0.3, 0.0], [1.0, 2.0, 0.5, 1.5]
    model.pipeline.vae.register_to_config(latents_mean=mean, latents_std=spread)
    scale = model.pipeline.vae.config.scaling_factor
    expected = (plain - scale * torch.tensor(mean).view(1, 4, 1, 1)) / torch.tensor(spread).view(
        1, 4, 1, 1
    )
    torch.testing.assert_close(model.encode_images(pictures(model)), expected)


def test_an_autoencoder_that_overflows_in_half_precision_is_lifted():
    model = denoiser("sdxl")
    shown = pictures(model)
    vae, seen = model.pipeline.vae.half(), []
    vae.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    assert model.encode_images(shown).isfinite().all()
    vae.register_to_config(force_upcast=False)
    model.encode_images(shown)
    assert seen == [torch.float32, torch.float16]
    assert vae.dtype == torch.float16


def test_flux_latents_are_unpacked_in_the_pipelines_order():
    latent = torch.randn(2, 4, 6, 8)
    theirs = families.FluxPipeline._pack_latents(latent, 2, 4, 6, 8)
    assert torch.equal(packed(latent), theirs)
    assert torch.equal(unpacked(theirs, (3, 4)), latent)


# The schedule


@pytest.mark.parametrize("name", FLOWS)
def test_a_perfect_velocity_leads_from_noise_to_the_latent(name):
    """With the pipeline's own scheduler; the noising is the schedule's."""
    model = denoiser(name)
    assert model.schedule.prediction == "flow"
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(4)
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    now = noise
    for timestep in scheduler.timesteps:
        now = scheduler.step(noise - clean, timestep, now, return_dict=False)[0]
    torch.testing.assert_close(now, clean, rtol=1e-4, atol=1e-5)
    noised = scheduler.scale_noise(clean, scheduler.timesteps[1:2], noise)
    level = scheduler.sigmas[1].item()
    grid = torch.tensor([model.schedule.timestep(level)])
    torch.testing.assert_close(
        add_noise(model.schedule, clean, noise, grid), noised, atol=3e-3, rtol=1e-2
    )


def test_a_schedule_that_a_family_does_not_know_is_refused():
    pipe = families.pipeline("sd3")
    pipe.scheduler = families.DDIMScheduler()
    with pytest.raises(ModelError, match="denoises a flow, its scheduler DDIMScheduler does not"):
        from_pipeline(pipe)
    pipe = families.pipeline("sd-v")
    pipe.scheduler.register_to_config(prediction_type="noise")
    with pytest.raises(ModelError, match="predicts 'noise'; one of epsilon, v_prediction, sample"):
        from_pipeline(pipe)
    # CosXL: its network knows 0.25 log(sigma) where others count, and noise up to 120.
    told = {"prediction_type": "v_prediction", "sigma_min": 0.002, "sigma_max": 120.0}
    pipe.scheduler = EulerDiscreteScheduler(timestep_type="continuous", **told)
    with pytest.raises(ModelError, match="EulerDiscreteScheduler asks its denoiser at continuous"):
        from_pipeline(pipe)
    pipe.scheduler = EulerDiscreteScheduler(prediction_type="v_prediction", use_karras_sigmas=True)
    assert from_pipeline(pipe).schedule.prediction == "v"


# Features and meanings


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_the_quarters_of_a_picture_of_any_shape(name):
    model = denoiser(name)
    latent = torch.randn(1, model.encode_images(pictures(model)).shape[1], 4, 8)
    with torch.no_grad(), model.bottleneck() as seen:
        model.predict(latent, torch.tensor([100]), model.encode_prompts([""]))
        model.predict(latent.flip(3), torch.tensor([100]), model.encode_prompts([""]))
    (first,), (flipped,) = seen
    assert first.dtype == torch.float32
    assert first.numel() % 4 == 0
    assert not torch.allclose(first, flipped)
    assert not any(block._forward_hooks for block in model.module.modules())


def test_tokens_are_rows_of_the_picture():
    tokens = torch.arange(6.0).view(1, 6, 1)
    assert token_map(tokens, (2, 3))[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("name", NAMES)
def test_meanings_are_vectors_of_prompts_alone(name):
    model = denoiser(name)
    found = model.text_embedding(["a hat", "a coat", "a hat", ""])
    assert found.ndim == 2
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[1:2], model.text_embedding(["a coat"]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_that_were_encoded_apart_are_put_together(name):
    """Those of unlike lengths are filled up, and a mask tells the network."""
    model = denoiser(name)
    together = model.encode_prompts(PROMPTS)
    apart = Condition.cat([model.encode_prompts([prompt]) for prompt in PROMPTS])
    assert {k: v.shape for k, v in apart.tensors.items()} == {
        k: v.shape for k, v in together.tensors.items()
    }
    latent, when = torch.randn(2, *latent_shape(model)), torch.tensor([500, 500])
    with torch.no_grad():
        said = [model.predict(latent, when, each) for each in (together, apart)]
    torch.testing.assert_close(*said, rtol=1e-4, atol=1e-5)


def latent_shape(model):
    return model.encode_images(pictures(model, 1)).shape[1:]


CHATS = {
    # tokens that stand before every prompt, from the template: a mark, then letters
    "z-image": len("|user\n"),
    "flux2-klein": len("|user\n"),
    "flux2": len("|system\n" + SYSTEM_MESSAGE + "|\n" + "|user\n"),
}


@pytest.mark.parametrize("name", CHATS)
def test_what_stands_before_every_prompt_has_no_part_in_meanings(name):
    model = denoiser(name)
    told = model.tokens(PROMPTS[0])
    first, count = CHATS[name], len(told)
    states = model.encode_prompts(PROMPTS[:1]).tensors["hidden"][0].float()
    own = states[-count:] if name == "flux2" else states[:count]
    expected = own[first:].mean(0)
    torch.testing.assert_close(model.text_embedding(PROMPTS[:1])[0], expected)
    assert told[:first] == model.tokens("something else")[:first]


@pytest.mark.parametrize("name", ["qwen-image", *CHATS])
def test_a_prompt_is_cut_where_the_pipeline_stops_reading_it(name):
    model = denoiser(name)
    fits = "a" * (model.reader.limit - model.reader.around)
    assert model.reader.limit == 512
    assert model.reader.cut([fits, fits + "b"]) == [fits + "b"]
    if name == "qwen-image":  # the others would lose the end of the chat first
        longer, same = (model.encode_prompts([fits + end]).tensors["hidden"] for end in "bc")
        assert torch.equal(longer, same)
        assert longer.shape[1] == 512
        other = model.encode_prompts([fits[1:] + "b"]).tensors["hidden"]
        assert not torch.equal(longer, other)


def test_a_distilled_klein_is_refused_at_scales_that_it_does_not_heed():
    model = denoiser("flux2-klein", is_distilled=True)
    assert model.guidance_kwargs(1.0)["guidance_scale"] == 1.0
    with pytest.raises(ModelError, match="does not heed a guidance scale, here 4: set calibrate"):
        require_drawable(model, 4, [1.0, 4.0])


def test_a_condition_is_taken_apart_and_put_together():
    whole = Condition({"hidden": torch.arange(6.0).view(3, 2), "mask": torch.arange(3)})
    assert len(whole) == 3
    back = Condition.cat([whole[[2, 0]], whole[1:2]]).to("cpu")
    assert back.tensors["mask"].tolist() == [2, 0, 1]
    assert back.tensors["hidden"][:, 0].tolist() == [4, 0, 2]
    assert whole[[1]].expand(3).tensors["hidden"].tolist() == [[2, 3]] * 3


# The LoRA's places, and the table


ENDINGS = {
    "sd-v": {"to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2", "proj_in", "proj_out",
             "conv1", "conv2", "conv_shortcut", "time_emb_proj"},
    "sd3": {"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj",
            "to_add_out", "net.0.proj", "net.2"},
    "flux": {"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj",
             "to_add_out", "net.0.proj", "net.2", "proj_mlp", "proj_out"},
    "pixart": {"to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2"},
    "sana": {"to_q", "to_k", "to_v", "to_out.0", "conv_inverted", "conv_point"},
    "z-image": {"to_q", "to_k", "to_v", "to_out.0", "w1", "w2", "w3"},
    "flux2": {"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj",
              "to_add_out", "linear_in", "linear_out", "to_qkv_mlp_proj", "to_out"},
}  # fmt: skip
ENDINGS["qwen-image"], ENDINGS["flux2-klein"] = ENDINGS["sd3"], ENDINGS["flux2"]
ENDINGS["chroma"] = ENDINGS["flux"]
ENDINGS["sd-epsilon"] = ENDINGS["sdxl"] = ENDINGS["sd-v"]


@pytest.mark.parametrize("name", NAMES)
def test_a_lora_goes_to_attention_feed_forward_and_convolution_of_every_block(name):
    module = denoiser(name).module
    found = adapter.targets(module)
    ends = {end for end in adapter.ENDINGS for target in found if target.endswith(f".{end}")}
    assert ends == ENDINGS[name]
    everything = dict(module.named_modules())
    missed = [
        path
        for path, layer in everything.items()
        if path.startswith(("transformer_blocks.", "single_transformer_blocks.", "layers."))
        and isinstance(layer, torch.nn.Linear)
        and path not in found
        and "norm" not in path
        and "_mod" not in path  # shift and scale by the timestep
        and "adaLN" not in path
    ]
    assert missed == []


def test_pipelines_that_cannot_be_trained_with_are_named():
    pipe = families.pipeline("sd-v")
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    with pytest.raises(ModelError, match=r"StableDiffusionPipeline.from_pipe\(pipe\), then attach"):
        from_pipeline(StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False))

    class SomePipeline:
        pass

    with pytest.raises(ModelError, match=r"SomePipeline is not supported.*FluxPipeline.*Sana"):
        from_pipeline(SomePipeline())
