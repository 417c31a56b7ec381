"""``make base``: train the embedded base model and its attribute classifier again.

Resumable: the same command goes on where it stopped. One thread; figures: docs/evidence/sets.md.
"""

import argparse
import shutil
from pathlib import Path

from invdiff.data.sets import builtin
from invdiff.data.sets.stored import open_set
from invdiff.engine.distributed.pool import one_thread
from invdiff.studies.toy_models.sets import RECIPES, build_base_model, classify


def main() -> None:
    """Write ``pipeline``, ``recipe.json`` and ``classifier.safetensors`` to ``--out``."""
    parser = argparse.ArgumentParser(
        prog="python -m invdiff.studies.toy_models", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--install", action="store_true", help="also copy them into the package")
    arguments = parser.parse_args()
    one_thread()
    out, faces, recipe = arguments.out, open_set("faces"), RECIPES["faces"]
    pipeline = build_base_model(recipe, faces.pictures("train"), faces.prompts("train"), out)
    accuracy = classify(recipe, faces, builtin.SETS["faces"].attribute, pipeline, out)
    print({name: round(value, 4) for name, value in accuracy.items()})
    if arguments.install:
        install(out, faces.folder)


def install(out: Path, assets: Path) -> None:
    """Replace the package's own model with the one in ``out``."""
    shutil.rmtree(assets / "base", ignore_errors=True)
    shutil.copytree(out / "pipeline", assets / "base")
    for name in ("recipe.json", "classifier.safetensors"):
        shutil.copy(out / name, assets / ("base_recipe.json" if name == "recipe.json" else name))


if __name__ == "__main__":
    main()
