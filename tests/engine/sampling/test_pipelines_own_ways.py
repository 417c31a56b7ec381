"""What pipelines do: noise on the way, schedules without signal, scales that a network is told."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchLCMScheduler,
    UNet2DConditionModel,
)

from invdiff.engine.sampling.sampler import Sampler
from invdiff.errors import ModelError
from invdiff.model.families.registry import from_pipeline
from tests.model import tiny
from tests.model import tiny_families as families

FULL = (0.0, 1.0)
STOCHASTIC = {
    "euler": lambda: FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
    "lcm": FlowMatchLCMScheduler,
}


@pytest.mark.parametrize("family", ["sd3", "flux", "sana"])
@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_noise_that_a_sampler_adds_belongs_to_the_seed(family, sampler):
    """The pipelines of SD3 and Flux do not hand their generators on (diffusers issue 13678)."""
    pipe = families.pipeline(family)
    pipe.scheduler = STOCHASTIC[sampler]()
    draw = Sampler(from_pipeline(pipe), None, 0.0, FULL, 2.5, 3).latents
    first = draw(["a hat", "a coat"], [1, 2])
    assert torch.equal(first, draw(["a hat", "a coat"], [1, 2]))
    torch.testing.assert_close(first[1:], draw(["a coat"], [2]), rtol=1e-4, atol=1e-4)
    assert "step" not in vars(pipe.scheduler)


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler])
def test_a_noise_prediction_where_nothing_but_noise_is_left_is_refused(kind):
    """Its loss there says nothing of the picture, and outweighs all others."""
    pipe = tiny.pipeline()
    pipe.scheduler = kind(prediction_type="epsilon", rescale_betas_zero_snr=True)
    with pytest.raises(ModelError, match="rescale_betas_zero_snr"):
        from_pipeline(pipe)
    pipe.scheduler = kind(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert from_pipeline(pipe).schedule.prediction == "v"


@pytest.mark.parametrize(("family", "channels"), [("sd", 9), ("sdxl", 8), ("flux", 6), ("sd3", 5)])
def test_a_network_that_takes_more_than_the_latent_is_refused(family, channels):
    """Inpainting takes a mask and a picture, editing a picture, depth a map."""
    pipe = tiny.pipeline() if family == "sd" else families.pipeline(family)
    network = pipe.unet if "unet" in pipe.components else pipe.transformer
    network.register_to_config(in_channels=channels)
    with pytest.raises(ModelError, match=f"takes {channels} channels"):
        from_pipeline(pipe)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_network_that_is_told_the_scale_is_told_scale_1(family):
    """As the stock pipeline tells a distilled network (LCM) without guidance."""
    pipe = tiny.pipeline() if family == "sd" else families.pipeline("sdxl")
    config = {k: v for k, v in pipe.unet.config.items() if k != "_use_default_values"}
    torch.manual_seed(0)
    pipe.unet = UNet2DConditionModel.from_config(config | {"time_cond_proj_dim": 8}).eval()
    model, seen = from_pipeline(pipe), []

    def keep(_, args, __, out):
        seen.append((args, out[0]))

    pipe.unet.register_forward_hook(keep, with_kwargs=True)
    Sampler(model, None, 0.0, FULL, 1.0, 1).latents(["a hat"], [1])
    (latent, step), said = seen[0]
    with torch.no_grad():
        found = model.predict(latent, torch.tensor([int(step)]), model.encode_prompts(["a hat"]))
    torch.testing.assert_close(found, said, rtol=1e-5, atol=1e-5)
