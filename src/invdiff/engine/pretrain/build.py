"""The embedded base model from its recipe: autoencoder, then denoiser, then one pipeline folder.

Each part resumes where it was interrupted; the finished pipeline opens with the stock
``StableDiffusionPipeline.from_pretrained``.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from invdiff.engine.pretrain import autoencoder, denoiser
from invdiff.engine.pretrain.recipe import Recipe
from invdiff.engine.pretrain.text import build_tokenizer


def build(recipe: Recipe, pictures: np.ndarray, prompts: Sequence[str], out: Path) -> Path:
    """Train every part on ``pictures`` (n, size, size, 3) uint8 and write ``out/pipeline``.

    Weights are stored as float16 (half the bytes; loaded as float32 by default). ``recipe.json``
    beside the pipeline holds the numbers, the seconds and the loss curves.
    """
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    started = time.monotonic()
    vae, vae_curve = autoencoder.train(recipe, images, out / "work" / "autoencoder")
    latents = autoencoder.encode(vae, images) * vae.config.scaling_factor
    middle = time.monotonic()
    tokenizer = build_tokenizer(prompts, recipe.text_length)
    model, denoiser_curve = denoiser.train(
        recipe, latents, prompts, tokenizer, out / "work" / "denoiser"
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=denoiser.build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(out / "pipeline", safe_serialization=True)
    record = {
        "recipe": recipe.facts(),
        "seconds": {
            "autoencoder": round(middle - started),
            "denoiser": round(time.monotonic() - middle),
        },
        "curves": {"autoencoder": thin(vae_curve), "denoiser": thin(denoiser_curve)},
    }
    (out / "recipe.json").write_text(json.dumps(record, indent=1))
    return out / "pipeline"


def thin(curve: list[float], points: int = 80) -> list[float]:
    """Means over equal stretches of a curve, few enough to plot and to store."""
    parts = np.array_split(np.array(curve), min(points, len(curve)))
    return [round(float(part.mean()), 5) for part in parts]
