"""`invdiff evaluate A B`: two plain folders of pictures, measured without training anything."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from invdiff.app.cli import two_pipelines

MORE = (
    "With two folders: measures the second beside the first (or both beside --reference) and "
    "writes metrics.json, report.html, CSV and LaTeX tables into --out. Nothing is trained or "
    "downloaded. With pipelines instead of folders, draws pictures with them first, from the same "
    "seeds. Without folders: the stage of the run in --out. "
)
TITLE = "two folders of pictures"
DEFAULTS: dict[str, Any] = {
    "reference": None,
    "extractor": [],
    "classifier": "",
    "attribute": "",
    "classes": [],
    "labels": "",
    "clip": "",
    "protocol": "standard",
    "target": "",
    "prompt_column": "",
    "size": 0,
    "seed_of_draws": 0,
    "resamples": 1000,
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The folders and their options."""
    parser.add_argument(
        "folders",
        nargs="*",
        metavar="FOLDER",
        help="two folders: flat, with a sub-folder for each prompt, or with captions; or two "
        "pipelines in diffusers format",
    )
    group = parser.add_argument_group(TITLE)
    add = group.add_argument
    add("--reference", metavar="FOLDER", help="pictures to compare both with")
    add(
        "--extractor",
        action="append",
        metavar="NAME",
        help="efficientnet-lite0 (default), faces, inception, vgg16, pixels, or the folder or "
        "hub id of a vision model; can be given more than once",
    )
    add(
        "--classifier",
        metavar="NAME",
        help='"faces", a file of a classifier, clip:MODEL, siglip:MODEL or model:MODEL, for shares',
    )
    add("--attribute", metavar="NAME", help="what that classifier estimates")
    add(
        "--classes",
        action="append",
        metavar="LINE",
        help='its classes, as "female = a photo of a woman"; given once for each',
    )
    add("--labels", metavar="A,B", help="columns with attributes, instead of a classifier")
    add("--clip", metavar="MODEL", help="folder or hub id of a model with both towers, for CLIP-T")
    add("--protocol", metavar="NAME", help="standard (default), or official: the authors' choices")
    add("--target", metavar="A=S,B=S", help="mix that shares are to have, as male=0.5,female=0.5")
    add("--prompt-column", metavar="NAME", help="column with the prompts")
    add("--size", type=int, metavar="N", help="bring all pictures to N x N first")
    add("--resamples", type=int, metavar="N", help="draws behind each interval (1000)")
    add("--seed-of-draws", type=int, metavar="N", help="seed of the draws behind intervals (0)")
    group.set_defaults(**dict.fromkeys(DEFAULTS))


def problems(asked: argparse.Namespace) -> list[str]:
    """What is wrong with the words: options without folders, settings with them."""
    options = (*DEFAULTS, *two_pipelines.DEFAULTS)
    given = [name for name in options if getattr(asked, name) is not None]
    found = []
    if not asked.folders:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        return (
            [f"{names}: for two folders, as in `invdiff evaluate A B --out DIR`"] if given else []
        )
    if len(asked.folders) != 2:
        found.append(f"evaluate takes two folders, not {len(asked.folders)}")
    else:
        found += two_pipelines.problems(asked)
    if asked.config or asked.preset or asked.overrides or asked.redo:
        found.append(
            "settings, --config, --preset and --redo are for a run: two folders have options of "
            "their own"
        )
    if asked.size is not None and asked.size < 8:
        found.append(f"--size {asked.size} is too small: give at least 8")
    if asked.resamples is not None and asked.resamples < 100:
        found.append(f"--resamples {asked.resamples} is too few: give at least 100")
    if problem := _wrong_classes(asked.classifier or "", asked.classes or []):
        found.append(f"--classes: {problem}")
    if asked.target:
        _, bad = _mix(asked.target)
        found += bad
    return found


def _wrong_classes(classifier: str, classes: list[str]) -> str | None:
    from invdiff.engine.settings.evaluation import has_text, wrong_classes

    if not has_text(classes):
        return 'must be lines like "female = a photo of a woman"'
    return wrong_classes(classifier, classes)


def evaluate(asked: argparse.Namespace) -> None:
    """Measure, and print the tables, what to know and where the report is."""
    from invdiff.app.comparison.evaluate_folders import evaluate_folders
    from invdiff.app.comparison.sheets import sheet_text, sheets

    options = {
        name: default if getattr(asked, name) is None else getattr(asked, name)
        for name, default in DEFAULTS.items()
    }
    first, second = two_pipelines.drawn(asked)
    record = evaluate_folders(
        first,
        second,
        asked.out,
        reference=options["reference"],
        extractors=options["extractor"],
        classifier=options["classifier"],
        attribute=options["attribute"],
        classes=options["classes"],
        labels=[name.strip() for name in options["labels"].split(",") if name.strip()],
        clip=options["clip"],
        protocol=options["protocol"],
        target=_mix(options["target"])[0],
        prompt_column=options["prompt_column"],
        side=options["size"],
        seed=options["seed_of_draws"],
        resamples=options["resamples"],
        command=_again(asked),
    )
    for sheet in sheets(record):
        print(sheet_text(sheet), end="\n\n")
    for text in record["warnings"] + record["not_measured"]:
        print(f"note: {text}")
    print(f"report: {Path(asked.out) / 'report.html'}")


def _mix(text: str) -> tuple[dict[str, float], list[str]]:
    """Shares by class, and what is wrong with them."""
    mix: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, share = part.rpartition("=")
        try:
            mix[name.strip()] = float(share)
        except ValueError:
            return {}, [f"--target {text}: {part!r} is not CLASS=SHARE, as in male=0.5"]
    if mix and (min(mix.values()) < 0 or abs(sum(mix.values()) - 1) > 1e-6):
        return {}, [f"--target {text}: shares must be at least 0 and add up to 1"]
    return mix, []


def _again(asked: argparse.Namespace) -> str:
    """The command, for the report."""
    words = ["invdiff", "evaluate", *asked.folders]
    for name in (*two_pipelines.DEFAULTS, *DEFAULTS):
        value = getattr(asked, name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        for one in values:
            words += [f"--{name.replace('_', '-')}", str(one)]
    return shlex.join([*words, "--out", str(asked.out)])
