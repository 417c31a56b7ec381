"""The verbs and their options as one table, of which the parser and the help are made."""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

Options = Mapping[str, str | Mapping[str, Any]]
"""``--name VALUE`` or ``-n --name``, or ``name VALUE`` of a positional, with its help or all that
argparse takes."""


@dataclass(frozen=True)
class Verb:
    """What a verb is for, what it takes, and ``module:function`` in this folder that does it.

    ``takes`` are its options, ``groups`` more of them under a title. ``no_settings`` says why it
    takes no settings of a run. A verb with ``actions`` is done by them.
    """

    words: str
    does: str = ""
    takes: Options = field(default_factory=dict)
    more: str = ""
    groups: Mapping[str, Options] = field(default_factory=dict)
    no_settings: str = ""
    actions: Mapping[str, "Verb"] = field(default_factory=dict)


def _text(words: str, **more: Any) -> dict[str, Any]:
    return {"help": words, **more}


def _path(words: str, **more: Any) -> dict[str, Any]:
    return {"help": words, "type": Path, **more}


def _flag(words: str) -> dict[str, Any]:
    return {"help": words, "action": "store_true"}


def _whole(words: str, least: int | None = None, **more: Any) -> dict[str, Any]:
    return {"help": words, "type": int if least is None else partial(_at_least, int, least), **more}


def _number(words: str, least: float = 0, **more: Any) -> dict[str, Any]:
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
    "celeba, digits, faces, faces-balanced, faces-marginal, faces-named, faces-quick, faces-race, "
    "fairface, flux, scenes, sd15, sdxl, waterbirds"
)
OF_THE_RUN = "the run has its own"

SOURCE: Options = {
    "--config FILE": _path("TOML file with settings; with --preset what it says counts"),
    "--preset NAME": f"settings by name: {PRESETS}",
}
RUN_FOLDER: Options = {
    "--out DIR": _path("run folder; made if it is not there", required=True),
}
DRY_AND_REDO: Options = {
    "--dry-run": _flag("print the plan and its work, start nothing"),
    "--redo": _flag("do again what changed settings touch; everything, if none has changed"),
}
JSON: Options = {"--json": _flag("print everything as JSON")}
HOW_LOUD: Options = {
    "-q --quiet": _flag("print what was found and nothing on the way there"),
    "-v --verbose": _flag("print how long each stage took, and what libraries have to say"),
}
LAST_LINES: Options = {
    **HOW_LOUD,
    "--json": _flag("print what was found as JSON, and nothing else to the standard output"),
}
STAGE: Options = {
    **HOW_LOUD,
    "--redo": _flag("do this stage again and forget those that follow it"),
}
OF_A_RUN: Options = {
    "run RUN": _path("the run folder", nargs="?"),
    **SOURCE,
    "--out DIR": _path("the run folder, as another way to name it"),
    **STAGE,
}


def _stage(words: str, takes: Options = OF_A_RUN) -> Verb:
    return Verb(words, "runs:one_stage", takes, OVERRIDES + RESUME)


TWO_FOLDERS: Options = {
    "--reference FOLDER": "pictures to compare both with",
    "--extractor NAME": _text(
        "efficientnet-lite0 (default), faces, inception, vgg16, pixels, or the folder or hub id of "
        "a vision model; can be given more than once",
        action="append",
        dest="extractors",
    ),
    "--classifier NAME": (
        '"faces", a file of a classifier, clip:MODEL, siglip:MODEL or model:MODEL, for shares'
    ),
    "--attribute NAME": "what that classifier estimates",
    "--classes LINE": _text(
        'its classes, as "female = a photo of a woman"; given once for each', action="append"
    ),
    "--labels A,B": _text("columns with attributes, instead of a classifier", type=_names),
    "--clip MODEL": "folder or hub id of a model with both towers, for CLIP-T",
    "--protocol NAME": "standard (default), or official: the authors' choices",
    "--target A=S,B=S": _text("mix that shares are to have, as male=0.5,female=0.5", type=_mix),
    "--prompt-column NAME": "column with the prompts",
    "--quarantine FILE": "list by `invdiff data check` of pictures to leave out",
    "--max-bad-share S": _number("leave out unusable pictures, up to this share of a set (0)"),
    "--size N": _whole("bring all pictures to N x N first", 8, dest="side"),
    "--resamples N": _whole("draws behind each interval (1000)", 100),
    "--seed-of-draws N": _whole("seed of the draws behind intervals (0)", dest="seed"),
}
TWO_PIPELINES: Options = {
    "--prompts FILE": _path("what to draw: a text file, a prompt a line"),
    "--adapter DIR": _path("adapter of InvDiff on the second pipeline"),
    "--strength S": _number("of the adapter (as calibrated)"),
    "--images-per-prompt N": _whole("pictures of each prompt (100)", 1),
    "--scale W": _number("guidance scale (7.5)", 1),
    "--steps N": _whole("denoising steps of one picture (30)", 1),
    "--seed-of-pictures N": _whole("seed of the pictures (0)"),
}

CHECK = Verb(
    "decode every picture and list what is wrong",
    "data:check",
    {
        "path PATH": (
            "a folder of pictures, a saved Hugging Face data set, .tar, .parquet or .npz files, or "
            "a built-in set"
        ),
        "--prompt-column NAME": _text("column with captions", default=""),
        "--min-side N": _whole(
            "pictures whose shorter side has fewer pixels are to be left out; without it those "
            "below 32 are told as tiny"
        ),
        "--quarantine FILE": _path(
            "write the list of pictures to leave out, .csv or .parquet, for data.quarantine"
        ),
        "--near-duplicates": _flag("near-duplicates are to be left out, too"),
        **JSON,
    },
    "Near-duplicates and tiny pictures are told and not left out, unless --near-duplicates or "
    "--min-side says so; nor are animated pictures, whose first one is taken, and those of one "
    "colour. Exit code 1 if there is anything to leave out.",
)
BUILD = Verb(
    "make a built-in set: its pictures, base model and attribute classifier",
    "data:build",
    {
        "name NAME": ("scenes, digits, faces-balanced, faces-marginal, faces-named or faces-race"),
        "--from FOLDER": _path(
            "folder laid out like /usr/share with the pictures that scenes needs (/usr/share)",
            dest="source",
        ),
        "--out DIR": _path(
            "folder for built sets; another one than the user's cache is found if INVDIFF_SETS "
            "names it"
        ),
    },
    f"{RESUME} Afterwards the name serves as data.path, model.path, preset and benchmark. "
    "docs/evidence/sets.md tells what the sets are and how long they take.",
)
CLASSIFIER = Verb(
    "train an attribute classifier on labelled pictures",
    "data:classifier",
    {
        "--from PATH": _text(
            "a folder of pictures with metadata, or .tar, .parquet or .npz files",
            dest="source",
            required=True,
        ),
        "--label-column NAME": _text("column with the labels", required=True),
        "--out FILE": _path("the .safetensors file to write", required=True),
        "--backbone MODEL": _text(
            "folder or cached hub id of a vision model of transformers, on whose features a linear "
            "layer is trained; without it a small network that sees 32 x 32 pixels",
            default="",
        ),
        "--steps N": _whole("steps of the small network (1000)", 1, default=1000),
        "--split-seed N": _whole("seed of the split and of training (0)", default=0),
    },
    "A fifth of the pictures is held out; how often the classifier is wrong on it stands in the "
    f"file's header and corrects the shares of a report. {RESUME}",
)
PREPARE = Verb(
    "check a benchmark's official archive and lay it out for a run",
    "data:prepare",
    {
        "name NAME": "waterbirds, celeba or fairface",
        "--from FOLDER": _path(
            "folder of the unpacked official archive", dest="source", required=True
        ),
        "--out DIR": _path("new folder for train, validation and test", required=True),
        "--ratio A:B:...": _text(
            "ratio of the groups in the training split, as in 3:2:1:1:1:1:2:3; all pictures "
            "without it",
            default="",
        ),
        "--ratio-seed N": _whole("seed that chooses the pictures a ratio keeps (0)", default=0),
    },
    "No picture is copied: the folders link to the archive. docs/evidence/benchmarks.md tells "
    "where the archives are from and what is checked.",
)
BENCHMARK = Verb(
    "run a named benchmark",
    "benchmark:benchmark",
    {
        "names NAME": _text(
            "name of a built-in set, as in faces; --suite method takes several, or none for all",
            nargs="*",
        ),
        "--suite NAME": _text(
            "controls (what must and must not do anything, the default), baselines (other ways to "
            "balance a model), ablation (the method with one setting changed) or augment "
            "(classifiers trained on what `invdiff augment` makes), which can share a folder; or "
            "method (every estimator, and what balancing does at three guidance scales, on every "
            "set)",
            default="controls",
        ),
        "--part NAME": (
            "with --suite method, one table alone: found (which estimator finds the groups) or "
            "balanced (what they do)"
        ),
        "--rows ROW": _text(
            "with --suite ablation, only these rows and the method's own, as in rank-4 lambda-0",
            nargs="+",
            default=[],
        ),
        "--seeds N": _whole("training seeds (3)", 1, default=3),
        "--out DIR": _path(
            "folder for the tables and runs; made if it is not there", required=True
        ),
    },
    "With --suite ablation or method, settings are those of all rows, as in --train.steps 400. "
    + RESUME,
)

VERBS: Mapping[str, Verb] = {
    "demo": Verb(
        "run the whole method on the embedded faces and their model",
        "runs:demo",
        {
            "--quick": _flag("smoke run: shows that it works, its figures are void"),
            "--out DIR": _path("run folder (invdiff-demo)", default=Path("invdiff-demo")),
            **DRY_AND_REDO,
            **LAST_LINES,
        },
        OVERRIDES + RESUME,
    ),
    "run": Verb(
        "run all stages in order",
        "runs:all_stages",
        {**SOURCE, **RUN_FOLDER, **DRY_AND_REDO, **LAST_LINES},
        OVERRIDES + RESUME,
    ),
    "discover": _stage(
        "infer the groups that the model over- and under-represents",
        {**SOURCE, **RUN_FOLDER, **STAGE},
    ),
    "train": _stage("train and calibrate the guidance on balanced groups"),
    "sample": _stage("make pictures before and after from the same seeds"),
    "evaluate": Verb(
        "measure the pictures of a run, or any two folders of pictures",
        "two_folders:evaluate",
        {
            **SOURCE,
            "--out DIR": _path("folder for the page and the tables of two folders"),
            **STAGE,
            "folders FOLDER": _text(
                "a run folder; or two folders: flat, with a sub-folder for each prompt, or with "
                "captions; or two pipelines in diffusers format",
                nargs="*",
            ),
        },
        "With two folders: measures the second beside the first (or both beside --reference) and "
        "writes metrics.json, report.html, CSV and LaTeX tables into --out. Nothing is trained or "
        "downloaded. With pipelines instead of folders, draws pictures with them first, from the "
        "same seeds. " + OVERRIDES + RESUME,
        {"two folders of pictures": TWO_FOLDERS, "pipelines instead of folders": TWO_PIPELINES},
    ),
    "report": _stage("write report.html, one file that opens offline"),
    "export": Verb(
        "write the adapter in the formats of other tools",
        "runs:export_adapter",
        {
            "source RUN_OR_ADAPTER": _path("a run folder, or an adapter folder"),
            "--format": _text(
                "can be given more than once; kohya is what ComfyUI and A1111 read, peft what "
                "PeftModel.from_pretrained does, merged a whole pipeline",
                action="append",
                dest="formats",
                choices=("diffusers", "kohya", "peft", "merged"),
                default=[],
            ),
            "--out DIR": _path("new folder for the files; made if it is not there", required=True),
            "--model MODEL": "base model, where it is not known",
            "--strength S": _number(
                "instead of the calibrated strength; it is in the files, to be used at weight 1"
            ),
            "--verify": _flag("load every file again and compare pictures"),
            "--audit URL": "address of the audit, for the header",
            "--push OWNER/NAME": "upload the folder to the model hub",
            "--private": _flag("with --push: a private repository"),
            "--dry-run": _flag("with --push: list what would be uploaded, no more"),
        },
        "Without --format: diffusers, peft, and kohya where the family has it.",
        no_settings=OF_THE_RUN,
    ),
    "augment": Verb(
        "even out the data of a run with pictures of its guided sampler, or draw an even set",
        "runs:augment",
        {
            "run RUN": _path("a run folder whose training is done"),
            "--out DIR": _path("new folder for the set", required=True),
            "--images-per-prompt N": _whole(
                "draw a set of its own, N pictures of each prompt; without it the pictures of the "
                "run's data and what their smaller groups lack",
                1,
            ),
            "--scale W": _number("guidance scale (the one of the calibration)", 1),
            "--strength S": _number("instead of the calibrated strength"),
        },
        "Groups are inferred, of drawn pictures too. metadata.csv tells which pictures are "
        "synthetic, with the seed of each; docs/reference/files.md has its columns. " + RESUME,
        no_settings=OF_THE_RUN,
    ),
    "data": Verb(
        "look at pictures and captions before a run",
        actions={"check": CHECK, "build": BUILD, "classifier": CLASSIFIER, "prepare": PREPARE},
        no_settings="it looks at pictures, not at a run",
    ),
    "benchmark": Verb(
        "run the method and its alternatives side by side", actions={"run": BENCHMARK}
    ),
    "config": Verb(
        "print the settings as TOML, each with what it means",
        "runs:config",
        {**SOURCE, "--schema": _flag("print the JSON schema instead")},
        OVERRIDES,
    ),
    "doctor": Verb(
        "check versions, devices, cached models, and what a run would need",
        "runs:doctor",
        {**SOURCE, **JSON},
        "Exit code 1 if something that is needed is missing. " + OVERRIDES,
    ),
    "weights": Verb(
        "weights of extractors: fetch, verify or list them",
        "weights:weights",
        {
            "task TASK": _text("fetch, verify or list", choices=("fetch", "verify", "list")),
            "names NAME": _text("names of `invdiff weights list`", nargs="*"),
            "--mirror PLACE": _text("folder or address to fetch from instead", default=""),
            "--to DIR": _path("folder of the weights"),
        },
        "Nothing is downloaded unless it is fetched here. A hash that is not published is recorded "
        "at the first fetch. The folder is $INVDIFF_WEIGHTS, else in the user's cache.",
        no_settings="it looks at files, not at a run",
    ),
}
