"""A base model from its recipe: autoencoder, then denoiser, then one pipeline folder.

Each part resumes where it was interrupted; the finished pipeline opens with the stock
``StableDiffusionPipeline.from_pretrained``.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from invdiff.engine.fitting.simple_loop import Recipe, seconds_of
from invdiff.engine.storage.files import give_default_mode
from invdiff.studies.toy_models import autoencoder, denoiser
from invdiff.studies.toy_models.text import build_tokenizer


def build_base_model(
    recipe: Recipe, pictures: np.ndarray, prompts: Sequence[str], out: Path
) -> Path:
    """Train every part on ``pictures`` (n, size, size, 3) uint8 and write ``out/pipeline``.

    ``recipe.json`` beside the pipeline holds the numbers, the seconds and the loss curves.
    """
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    vae, vae_curve = autoencoder.train_autoencoder(recipe, images, out / "work" / "autoencoder")
    latents = autoencoder.encode(vae, images) * vae.config.scaling_factor
    tokenizer = build_tokenizer(prompts, recipe.text_length)
    model, denoiser_curve = denoiser.train_denoiser(
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
    save(pipeline, out / "pipeline")
    record = {
        "recipe": recipe.facts(),
        "seconds": {part: seconds_of(out / "work" / part) for part in ("autoencoder", "denoiser")},
        "curves": {"autoencoder": thin(vae_curve), "denoiser": thin(denoiser_curve)},
    }
    (out / "recipe.json").write_text(json.dumps(record, indent=1))
    return out / "pipeline"


def save(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline with float16 weights, which diffusers loads as float32 by default.

    The text encoder stays float32: transformers loads what is stored, and the two must agree.
    """
    pipeline.unet.half()
    pipeline.vae.half()
    pipeline.save_pretrained(folder, safe_serialization=True)
    give_default_mode(folder)


def thin(curve: list[float], points: int = 80) -> list[float]:
    """Means over equal stretches of a curve, few enough to plot and to store."""
    if not curve:
        return []
    parts = np.array_split(np.array(curve), min(points, len(curve)))
    return [round(float(part.mean()), 5) for part in parts]
