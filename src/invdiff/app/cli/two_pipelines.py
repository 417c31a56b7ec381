"""The part of `invdiff evaluate A B` that draws first, where A or B is a pipeline."""

import argparse
from pathlib import Path
from typing import Any

from invdiff.errors import DataError

DEFAULTS: dict[str, Any] = {
    "prompts": None,
    "adapter": None,
    "strength": None,
    "images_per_prompt": 100,
    "scale": 7.5,
    "steps": 30,
    "seed_of_pictures": 0,
}


def arguments(parser: argparse.ArgumentParser, count: Any, number: Any) -> None:
    """The options; ``count`` and ``number`` read whole and other numbers."""
    group = parser.add_argument_group("pipelines instead of folders")
    add = group.add_argument
    add("--prompts", type=Path, metavar="FILE", help="what to draw: a text file, a prompt a line")
    add("--adapter", type=Path, metavar="DIR", help="adapter of InvDiff on the second pipeline")
    add("--strength", type=number, metavar="S", help="of the adapter (as calibrated)")
    add("--images-per-prompt", type=count, metavar="N", help="pictures of each prompt (100)")
    add("--scale", type=number, metavar="W", help="guidance scale (7.5)")
    add("--steps", type=count, metavar="N", help="denoising steps of one picture (30)")
    add("--seed-of-pictures", type=int, metavar="N", help="seed of the pictures (0)")
    group.set_defaults(**dict.fromkeys(DEFAULTS))


def problems(asked: argparse.Namespace) -> list[str]:
    """What is wrong with the words: pipelines without prompts, options without pipelines."""
    drawn = [is_pipeline(path) for path in asked.folders]
    given = [f"--{name.replace('_', '-')}" for name in DEFAULTS if getattr(asked, name) is not None]
    if not any(drawn):
        return [f"{', '.join(given)}: for pipelines, and neither of both is one"] if given else []
    found = []
    if asked.prompts is None:
        found.append("--prompts FILE is needed to draw with a pipeline: text, a prompt a line")
    if asked.scale is not None and asked.scale < 1:
        found.append(f"--scale {asked.scale:g} is too small: give at least 1")
    if asked.adapter is not None and not drawn[-1]:
        found.append(f"--adapter is for a pipeline, and {asked.folders[-1]} is none")
    if asked.strength is not None and asked.adapter is None:
        found.append("--strength is that of --adapter, which is not given")
    return found


def is_pipeline(path: str) -> bool:
    """Whether ``path`` is a pipeline in diffusers format, or a built-in name and no folder."""
    from invdiff.engine.settings.common import EMBEDDED_SETS

    place = Path(path).expanduser()
    return (place / "model_index.json").is_file() or (path in EMBEDDED_SETS and not place.exists())


def drawn(asked: argparse.Namespace) -> list[str]:
    """The two folders, drawn into ``--out`` where a pipeline was given.

    Raises:
        DataError: the file of the prompts cannot be read or has none.
    """
    from invdiff.engine.comparison.drawn import Pipeline, Wanted, draw_folder
    from invdiff.model.lora.adapter_file import read_settings

    if not any(map(is_pipeline, asked.folders)):
        return list(asked.folders)
    chosen = {
        name: default if getattr(asked, name) is None else getattr(asked, name)
        for name, default in DEFAULTS.items()
    }
    wanted = Wanted(
        read_prompts(asked.prompts),
        images=chosen["images_per_prompt"],
        scale=chosen["scale"],
        steps=chosen["steps"],
        seed=chosen["seed_of_pictures"],
    )
    adapters = (None, asked.adapter)
    folders = []
    for path, adapter, name in zip(asked.folders, adapters, ("first", "second"), strict=True):
        if is_pipeline(path):
            told = read_settings(adapter) if adapter else {}
            strength = chosen["strength"]
            if strength is None:
                strength = told.get("recommended_strength", 1.0)
            pipeline = Pipeline(path, adapter, strength)
            path = str(draw_folder(pipeline, wanted, asked.out / "drawn" / name))
        folders.append(path)
    return folders


def read_prompts(path: Path) -> tuple[str, ...]:
    """The lines of a text file that are not empty, each once; DataError without any."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a text file of prompts: {error}") from None
    found = tuple(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not found:
        raise DataError(f"{path} has no prompts: give one a line")
    return found
