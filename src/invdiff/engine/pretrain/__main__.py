"""``make base``: train the embedded base model and its attribute classifier again.

Resumable: the same command goes on where it stopped. One thread; the figures are in docs/base.md.
"""

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from invdiff.data.sets import faces
from invdiff.engine.pretrain import classifiers
from invdiff.engine.pretrain.build import build
from invdiff.engine.pretrain.recipe import Recipe
from invdiff.engine.processes import one_thread


def main() -> None:
    """Write ``pipeline``, ``recipe.json`` and ``classifier.safetensors`` to ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m invdiff.engine.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--install", action="store_true", help="also copy them into the package")
    arguments = parser.parse_args()
    one_thread()
    out, recipe = arguments.out, Recipe()
    pipeline = build(recipe, faces.pictures("train"), faces.prompts("train"), out)
    classifier(recipe, pipeline, out)
    if arguments.install:
        install(out, Path(__file__).parents[2] / "assets" / "faces")


def classifier(recipe: Recipe, pipeline: Path, out: Path) -> None:
    """Train the attribute classifier on one half of the balanced set, measure it on the other."""
    images = torch.from_numpy(faces.pictures("balanced")).permute(0, 3, 1, 2).float() / 127.5 - 1
    attributes = {
        "gender": faces.attributes("balanced")["gender"],
        "prompt": faces.prompts("balanced"),
    }
    vae = AutoencoderKL.from_pretrained(pipeline / "vae").eval()
    model, facts = classifiers.train(
        recipe, images, attributes, out / "work" / "classifier", classifiers.through(vae)
    )
    model.save(out / "classifier.safetensors", facts)
    print({name: round(facts["attributes"][name]["accuracy"], 4) for name in attributes})


def install(out: Path, assets: Path) -> None:
    """Replace the package's own model with the one in ``out``."""
    shutil.rmtree(assets / "base", ignore_errors=True)
    shutil.copytree(out / "pipeline", assets / "base")
    for name in ("recipe.json", "classifier.safetensors"):
        shutil.copy(out / name, assets / ("base_recipe.json" if name == "recipe.json" else name))


if __name__ == "__main__":
    main()
