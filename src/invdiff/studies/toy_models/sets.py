"""A built-in set from nothing: pictures, base model, attribute classifier, one folder.

Every part resumes where it was interrupted; the set appears in its place when all are done. The
base model is autoencoder, then denoiser, then one pipeline folder that opens with the stock
``StableDiffusionPipeline.from_pretrained``.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from invdiff.data.sets import builtin
from invdiff.data.sets.drawn import digits, more_faces, scenes, several_faces
from invdiff.data.sets.stored import SPLITS, DrawnSplit, Split, StoredSet, write_drawn_split
from invdiff.engine.distributed.pool import one_thread
from invdiff.engine.fitting import small_classifier
from invdiff.engine.fitting.simple_loop import Recipe, seconds_of
from invdiff.engine.storage.files import locked, new_folder, write_with
from invdiff.errors import ConfigError
from invdiff.model.vision.attribute_classifier import to_input
from invdiff.studies.toy_models import networks

Draw = Callable[[Path | None], Mapping[Split, DrawnSplit]]

DRAWS: Mapping[str, Draw] = {
    "faces-balanced": lambda _: more_faces.draw(more_faces.BALANCED),
    "faces-marginal": lambda _: more_faces.draw(more_faces.MARGINAL),
    "faces-named": lambda _: more_faces.draw_named(),
    "faces-race": lambda _: more_faces.draw(more_faces.RACE),
    "faces-several": lambda _: several_faces.draw(),
    "scenes": scenes.draw,
    "digits": lambda _: digits.draw(),
}


VARIANT = Recipe(start="faces", autoencoder_steps=0, denoiser_steps=3000)
"""Other draws of the same faces: the autoencoder, which knows no prompts, serves as it is."""

RECIPES: Mapping[str, Recipe] = {
    "faces": Recipe(),
    "faces-balanced": VARIANT,
    "faces-marginal": VARIANT,
    "faces-named": VARIANT,
    "faces-race": VARIANT,
    "faces-several": Recipe(start="faces", autoencoder_steps=600, denoiser_steps=4500),
    "scenes": Recipe(start="faces", autoencoder_steps=1500, denoiser_steps=6000),
    "digits": Recipe(start="faces", autoencoder_steps=300, denoiser_steps=2500),
}


def make(name: str, source: Path | None = None, home: Path | None = None) -> Path:
    """Build the set ``name`` below ``home`` (the cache without it); returns its folder.

    ``source`` is where the pictures come from, for sets that need other packages' files.

    Raises:
        ConfigError: no such set, or it comes with the package.
        DataError: something that the set is drawn from is missing.
        RunError: another process is building it.
    """
    if name not in DRAWS:
        raise ConfigError(f"there is no set {name!r} to build: one of {', '.join(DRAWS)}")
    final = (home or builtin.home()).expanduser() / name
    if final.is_dir():
        return final
    one_thread()
    work = final.with_name(f".{name}-building")
    work.mkdir(parents=True, exist_ok=True)
    with locked(work):
        fill(work, DRAWS[name], source, RECIPES[name], builtin.SETS[name].attribute)
        with new_folder(final) as stage:
            shutil.copytree(work / "set", stage, dirs_exist_ok=True)
            shutil.copytree(work / "pipeline", stage / "base")
            shutil.copy(work / "recipe.json", stage / "base_recipe.json")
            shutil.copy(work / "classifier.safetensors", stage)
    shutil.rmtree(work)
    return final


def fill(work: Path, draw: Draw, source: Path | None, recipe: Recipe, attribute: str) -> None:
    """Draw and train what ``work`` does not hold yet."""
    if not (work / "set").is_dir():
        drawn = draw(source)
        with new_folder(work / "set") as stage:
            for split in SPLITS:
                write_drawn_split(stage, split, drawn[split])
    stored = StoredSet(work / "set")
    pipeline = build_base_model(recipe, stored.pictures("train"), stored.prompts("train"), work)
    classify(recipe, stored, attribute, pipeline, work)


def classify(
    recipe: Recipe, stored: StoredSet, attribute: str, pipeline: Path, out: Path
) -> dict[str, float]:
    """Train the classifier on one half of the balanced split, measure it on the other.

    Writes ``out/classifier.safetensors``; returns the accuracy for the attribute and the prompt.
    """
    attributes = {
        attribute: stored.attributes("balanced")[attribute],
        "prompt": stored.prompts("balanced"),
    }
    vae = AutoencoderKL.from_pretrained(pipeline / "vae").eval()
    images: torch.Tensor = to_input(stored.pictures("balanced"))
    model, facts = small_classifier.train_classifier(
        recipe, images, attributes, out / "work" / "classifier", small_classifier.through(vae)
    )
    write_with(out / "classifier.safetensors", lambda beside: model.save(beside, facts))
    return {name: facts["attributes"][name]["accuracy"] for name in attributes}


def build_base_model(
    recipe: Recipe, pictures: np.ndarray, prompts: Sequence[str], out: Path
) -> Path:
    """Train every part on ``pictures`` (n, size, size, 3) uint8 and write ``out/pipeline``.

    ``recipe.json`` beside the pipeline holds the numbers, the seconds and the loss curves.
    """
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    vae, vae_curve = networks.train_autoencoder(recipe, images, out / "work" / "autoencoder")
    latents = networks.encode(vae, images) * vae.config.scaling_factor
    tokenizer = networks.build_tokenizer(prompts, recipe.text_length)
    model, denoiser_curve = networks.train_denoiser(
        recipe, latents, prompts, tokenizer, out / "work" / "denoiser"
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=networks.build_scheduler(),
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


def thin(curve: list[float], points: int = 80) -> list[float]:
    """Means over equal stretches of a curve, few enough to plot and to store."""
    if not curve:
        return []
    parts = np.array_split(np.array(curve), min(points, len(curve)))
    return [round(float(part.mean()), 5) for part in parts]
