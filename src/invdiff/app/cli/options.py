"""What an option of the command is made of, and the options that several verbs share."""

import argparse
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

Options = Mapping[str, str | Mapping[str, Any]]
"""``--name VALUE`` or ``-n --name``, or ``name VALUE`` of a positional, with its help or all that
argparse takes."""


def a_text(words: str, **more: Any) -> dict[str, Any]:
    """What argparse takes for a text; ``more`` are its own arguments."""
    return {"help": words, **more}


def a_path(words: str, **more: Any) -> dict[str, Any]:
    """For the place of a file or a folder."""
    return {"help": words, "type": Path, **more}


def a_flag(words: str) -> dict[str, Any]:
    """For an option without a value."""
    return {"help": words, "action": "store_true"}


def a_whole(words: str, least: int | None = None, **more: Any) -> dict[str, Any]:
    """For a whole number, of at least ``least``."""
    return {"help": words, "type": int if least is None else partial(_at_least, int, least), **more}


def a_number(words: str, least: float = 0, **more: Any) -> dict[str, Any]:
    """For a finite number of at least ``least``."""
    return {"help": words, "type": partial(_at_least, float, least), **more}


def _at_least(kind: Callable[[str], float], least: float, text: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        what = "whole number" if kind is int else "number"
        raise argparse.ArgumentTypeError(f"must be a {what} of at least {least:g}, but is {text!r}")
    return value


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _mix(text: str) -> dict[str, float]:
    """Shares by class."""
    mix: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, share = part.rpartition("=")
        try:
            mix[name.strip()] = float(share)
        except ValueError:
            problem = f"{part!r} is not CLASS=SHARE, as in male=0.5"
            raise argparse.ArgumentTypeError(problem) from None
    if mix and not (min(mix.values()) >= 0 and abs(sum(mix.values()) - 1) <= 1e-6):
        raise argparse.ArgumentTypeError(f"{text}: shares must be at least 0 and add up to 1")
    return mix


OVERRIDES = (
    "Every setting can be given here too, as --train.steps 100 or --train.steps=100; "
    "`invdiff config` lists them. "
)
RESUME = "The same command goes on where an interrupted one stopped."
PRESETS = (
    "celeba, chroma, digits, faces, faces-balanced, faces-marginal, faces-named, faces-quick, "
    "faces-race, faces-several, fairface, flux, flux2-dev, flux2-klein, qwen-image, scenes, sd15, "
    "sdxl, waterbirds, z-image"
)
OF_THE_RUN = "the run has its own"

SOURCE: Options = {
    "--config FILE": a_path("TOML file with settings; with --preset what it says counts"),
    "--preset NAME": f"settings by name: {PRESETS}",
}
RUN_FOLDER: Options = {
    "--out DIR": a_path("run folder; made if it is not there", required=True),
}
DRY_AND_REDO: Options = {
    "--dry-run": a_flag("print the plan and its work, start nothing"),
    "--redo": a_flag("do again what changed settings touch; everything, if none has changed"),
}
JSON: Options = {"--json": a_flag("print everything as JSON")}
HOW_LOUD: Options = {
    "-q --quiet": a_flag("print what was found and nothing on the way there"),
    "-v --verbose": a_flag("print how long each stage took, and what libraries have to say"),
}
LAST_LINES: Options = {
    **HOW_LOUD,
    "--json": a_flag("print what was found as JSON, and nothing else to the standard output"),
}
STAGE: Options = {
    **HOW_LOUD,
    "--redo": a_flag("do this stage again and forget those that follow it"),
}
OF_A_RUN: Options = {
    "run RUN": a_path("the run folder", nargs="?"),
    **SOURCE,
    "--out DIR": a_path("the run folder, as another way to name it"),
    **STAGE,
}

TWO_FOLDERS: Options = {
    "--reference FOLDER": "pictures to compare both with",
    "--extractor NAME": a_text(
        "efficientnet-lite0 (default), faces, inception, vgg16, pixels, or the folder or hub id of "
        "a vision model; can be given more than once",
        action="append",
        dest="extractors",
    ),
    "--classifier NAME": (
        '"faces", a file of a classifier, clip:MODEL, siglip:MODEL or model:MODEL, for shares'
    ),
    "--attribute NAME": "what that classifier estimates",
    "--classes LINE": a_text(
        'its classes, as "female = a photo of a woman"; given once for each', action="append"
    ),
    "--labels A,B": a_text("columns with attributes, instead of a classifier", type=_names),
    "--clip MODEL": "folder or hub id of a model with both towers, for CLIP-T",
    "--protocol NAME": "standard (default), or official: the authors' choices",
    "--target A=S,B=S": a_text("mix that shares are to have, as male=0.5,female=0.5", type=_mix),
    "--prompt-column NAME": "column with the prompts",
    "--quarantine FILE": "list by `invdiff data check` of pictures to leave out",
    "--max-bad-share S": a_number("leave out unusable pictures, up to this share of a set (0)"),
    "--size N": a_whole("bring all pictures to N x N first", 8, dest="side"),
    "--resamples N": a_whole("draws behind each interval (1000)", 100),
    "--seed-of-draws N": a_whole("seed of the draws behind intervals (0)", dest="seed"),
}
TWO_PIPELINES: Options = {
    "--prompts FILE": a_path("what to draw: a text file, a prompt a line"),
    "--adapter DIR": a_path("adapter of InvDiff on the second pipeline"),
    "--strength S": a_number("of the adapter (as calibrated)"),
    "--images-per-prompt N": a_whole("pictures of each prompt (100)", 1),
    "--scale W": a_number("guidance scale (7.5)", 1),
    "--steps N": a_whole("denoising steps of one picture (30)", 1),
    "--seed-of-pictures N": a_whole("seed of the pictures (0)"),
}
