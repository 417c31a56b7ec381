"""Stable Diffusion 1.x and 2.x, epsilon- and v-predicting, and models of the same classes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from invdiff.core.schedule import Prediction, Schedule
from invdiff.errors import ModelError

PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}


class StableDiffusionDenoiser:
    """The :class:`~invdiff.model.denoiser.Denoiser` of a ``StableDiffusionPipeline``."""

    def __init__(self, pipeline: Any) -> None:
        kind = pipeline.scheduler.config.prediction_type
        if kind not in PREDICTIONS:
            raise ModelError(
                f"the scheduler predicts {kind!r}; one of {', '.join(PREDICTIONS)} is needed"
            )
        self.pipeline = pipeline
        self.module: torch.nn.Module = pipeline.unet
        self.schedule = Schedule(pipeline.scheduler.alphas_cumprod.float(), PREDICTIONS[kind])
        self.image_size: int = pipeline.unet.config.sample_size * pipeline.vae_scale_factor

    @torch.no_grad()
    def encode_images(self, pictures: np.ndarray) -> torch.Tensor:
        """Posterior means, scaled (deterministic: the same picture has the same latent)."""
        vae = self.pipeline.vae
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(vae.device, vae.dtype)
        encoded = vae.encode(pixels / 127.5 - 1)
        latent = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return (latent - shift) * vae.config.scaling_factor

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Last hidden states of the text encoder, through the pipeline's own code."""
        condition, _ = self.pipeline.encode_prompt(
            list(prompts),
            device=self.pipeline.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return condition

    @torch.no_grad()
    def meaning(self, prompts: Sequence[str]) -> torch.Tensor:
        """The text encoder's state at the end of the prompt."""
        tokens = self.pipeline.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.pipeline.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        encoder = self.pipeline.text_encoder
        pooled: torch.Tensor = encoder(tokens.input_ids.to(encoder.device)).pooler_output
        return pooled.float()

    def predict(
        self, noisy_latent: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """One pass of the UNet."""
        return self.module(
            noisy_latent, timestep, encoder_hidden_states=condition, return_dict=False
        )[0]

    @contextmanager
    def bottleneck(self) -> Iterator[list[torch.Tensor]]:
        """Output of the UNet's middle block ("h-space"), averaged within quarters of the picture.

        Quarters, because where something is (hair beside a face or below it) tells attributes
        apart that a mean over all positions confuses.
        """
        seen: list[torch.Tensor] = []
        middle: torch.nn.Module = self.pipeline.unet.mid_block
        handle = middle.register_forward_hook(
            lambda _module, _inputs, output: seen.append(
                adaptive_avg_pool2d(output.detach().float(), 2).flatten(1)
            )
        )
        try:
            yield seen
        finally:
            handle.remove()
