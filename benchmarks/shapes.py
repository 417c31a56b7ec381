"""Models to measure on: the embedded one and one of Stable Diffusion's shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from invdiff.data.sources import open_samples
from invdiff.engine.base_model.architecture import published
from invdiff.engine.base_model.loading import ModelRef, hushed, load_pipeline
from invdiff.model.denoiser import Condition, Denoiser
from invdiff.model.families.registry import from_pipeline
from invdiff.model.families.stable_diffusion import StableDiffusionDenoiser

FACES = ModelRef("faces", "cpu", "float32")
TOKENS, WIDTH = 77, 768  # of SD 1.4's conditions
VAE_WIDTHS = (128, 256, 512, 512)
SHARE = 2  # of the widths of SD 1.4
SIDE = 128


@dataclass
class World:
    """A model with the pictures (n, side, side, 3), prompts and token numbers to train on."""

    denoiser: Denoiser
    scheduler: DDPMScheduler
    vae: AutoencoderKL | None
    text_encoder: torch.nn.Module | None
    pictures: np.ndarray
    prompts: list[str]
    tokens: torch.Tensor
    batch: int


def embedded_model() -> World:
    """The embedded model and 512 of its pictures, batch 32."""
    count = 512
    with hushed():
        pipeline = load_pipeline(FACES)
    denoiser = from_pipeline(pipeline)
    samples = open_samples("faces", denoiser.image_size)
    prompts = list(samples.prompt[:count])
    tokens = pipeline.tokenizer(
        prompts,
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return World(
        denoiser,
        DDPMScheduler.from_config(pipeline.scheduler.config),
        pipeline.vae,
        pipeline.text_encoder,
        samples.pictures(list(range(count))),
        prompts,
        tokens,
        batch=32,
    )


def half_of_sd(batch: int = 4) -> World:
    """SD 1.4 with half of all widths, random weights, 64 pictures of 128 pixels."""
    count = 64
    torch.manual_seed(0)
    unet = unet_of(SHARE)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(VAE_WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(VAE_WIDTHS),
        block_out_channels=tuple(width // SHARE for width in VAE_WIDTHS),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=16,
    )
    text = CLIPTextConfig(
        hidden_size=WIDTH // SHARE,
        intermediate_size=4 * WIDTH // SHARE,
        num_hidden_layers=12,
        num_attention_heads=12,
    )
    draw = np.random.default_rng(0)
    return World(
        WithoutEncoders(unet, scheduler := sd_scheduler(), vae),
        scheduler,
        vae,
        CLIPTextModel(text),
        draw.integers(256, size=(count, SIDE, SIDE, 3), dtype=np.uint8),
        [f"prompt {k % 4}" for k in range(count)],
        torch.from_numpy(draw.integers(text.vocab_size, size=(count, TOKENS))),
        batch,
    )


class WithoutEncoders(StableDiffusionDenoiser):
    """A UNet whose prompts have random conditions of the right shape."""

    def __init__(
        self, unet: UNet2DConditionModel, scheduler: DDPMScheduler, vae: AutoencoderKL | None = None
    ) -> None:
        parts: dict[str, Any] = {"unet": unet, "scheduler": scheduler, "vae": vae}
        super().__init__(SimpleNamespace(**parts, components=parts, vae_scale_factor=8))
        self.width: int = unet.config.cross_attention_dim

    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Hidden states that mean nothing."""
        return Condition({"hidden": torch.randn(len(prompts), TOKENS, self.width)})


def unet_of(share: int = 1) -> UNet2DConditionModel:
    """A UNet of the shape of SD 1.4 and 1.5, which is the same; ``share`` divides its widths."""
    base = published("stable-diffusion-v1-5")
    assert base is not None, "the package knows SD 1.5"
    config = dict(base.denoiser.config)
    if share > 1:
        config["block_out_channels"] = [width // share for width in config["block_out_channels"]]
        config["cross_attention_dim"] //= share
        config["norm_num_groups"] = 16
    with hushed():
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(config)
    return unet


def sd_scheduler() -> DDPMScheduler:
    """The noise schedule of SD 1.4."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
