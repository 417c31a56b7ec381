"""The verbs and their options, as argparse knows them."""

import argparse
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from invdiff.app.cli import (
    augment,
    benchmark,
    data_build,
    data_check,
    data_classifier,
    data_prepare,
    two_folders,
    two_pipelines,
    weights,
)

STAGE_VERBS = {
    "discover": "infer the groups that the model over- and under-represents",
    "train": "train and calibrate the guidance on balanced groups",
    "sample": "make pictures before and after from the same seeds",
    "evaluate": "measure the pictures of a run, or any two folders of pictures",
    "report": "write report.html, one file that opens offline",
}
OVERRIDES = (
    "Every setting can be given here too, as --train.steps 100 or --train.steps=100; "
    "`invdiff config` lists them. "
)
RESUME = "The same command goes on where an interrupted one stopped."
PRESETS = (
    "celeba, digits, faces, faces-balanced, faces-marginal, faces-named, faces-quick, faces-race, "
    "fairface, flux, scenes, sd15, sdxl, waterbirds"
)
DATA_ACTIONS = {
    "check": data_check,
    "build": data_build,
    "classifier": data_classifier,
    "prepare": data_prepare,
}


class UsageError(Exception):
    """The command line itself is wrong; carries every problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems


class _Parser(argparse.ArgumentParser):
    """Says one line instead of the whole usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def build() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = _Parser(
        prog="invdiff",
        description="Balance what a text-to-image diffusion model makes of a prompt, "
        "without group labels.",
        epilog="Start with `invdiff demo --quick`. Exit codes: 0 done, 1 failed, 2 usage or "
        "configuration, 75 interrupted (run the same command again to go on).",
    )
    parser.add_argument("--version", action="version", version=f"invdiff {version('invdiff')}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    _demo(verbs)
    _run(verbs)
    for name, words in STAGE_VERBS.items():
        _stage(verbs, name, words)
    _export(verbs)
    augment.arguments(_verb(verbs, "augment", augment.WORDS, augment.MORE), _count, _strength)
    _data(verbs)
    _benchmark(verbs)
    _config(verbs)
    _doctor(verbs)
    weights.arguments(_verb(verbs, "weights", weights.WORDS, weights.MORE))
    return parser


def _verb(verbs: Any, name: str, words: str, more: str = "") -> argparse.ArgumentParser:
    text = f"{words[0].upper()}{words[1:]}."
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=words, description=text, epilog=more or None
    )
    parser.set_defaults(parser=parser)  # the innermost verb's is what was asked for
    return parser


def _demo(verbs: Any) -> None:
    words = "run the whole method on the embedded faces and their model"
    parser = _verb(verbs, "demo", words, OVERRIDES + RESUME)
    parser.add_argument(
        "--quick", action="store_true", help="smoke run: shows that it works, its figures are void"
    )
    _out(parser, default=Path("invdiff-demo"))
    _dry_and_redo(parser)


def _run(verbs: Any) -> None:
    parser = _verb(verbs, "run", "run all stages in order", OVERRIDES + RESUME)
    _source(parser)
    _out(parser)
    _dry_and_redo(parser)


def _stage(verbs: Any, name: str, words: str) -> None:
    folders = name == "evaluate"
    more = two_folders.MORE if folders else ""
    parser = _verb(verbs, name, words, more + OVERRIDES + RESUME)
    _source(parser)
    _out(parser)
    parser.add_argument(
        "--redo", action="store_true", help="do this stage again and forget those that follow it"
    )
    if folders:
        two_folders.arguments(parser)
        two_pipelines.arguments(parser, _count, _strength)


def _export(verbs: Any) -> None:
    more = "Without --format: diffusers, peft, and kohya where the family has it."
    parser = _verb(verbs, "export", "write the adapter in the formats of other tools", more)
    parser.add_argument(
        "source", type=Path, metavar="RUN_OR_ADAPTER", help="a run folder, or an adapter folder"
    )
    parser.add_argument(
        "--format",
        action="append",
        dest="formats",
        choices=("diffusers", "kohya", "peft", "merged"),
        default=[],
        help="can be given more than once; kohya is what ComfyUI and A1111 read, peft what "
        "PeftModel.from_pretrained does, merged a whole pipeline",
    )
    _out(parser, words="new folder for the files")
    parser.add_argument("--model", metavar="MODEL", help="base model, where it is not known")
    parser.add_argument(
        "--strength",
        type=_strength,
        metavar="S",
        help="instead of the calibrated strength; it is in the files, to be used at weight 1",
    )
    parser.add_argument(
        "--verify", action="store_true", help="load every file again and compare pictures"
    )
    parser.add_argument("--audit", metavar="URL", help="address of the audit, for the header")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to the model hub")
    parser.add_argument("--private", action="store_true", help="with --push: a private repository")
    parser.add_argument(
        "--dry-run", action="store_true", help="with --push: list what would be uploaded, no more"
    )


def _doctor(verbs: Any) -> None:
    more = "Exit code 1 if something that is needed is missing. "
    words = "check versions, devices, cached models, and what a run would need"
    parser = _verb(verbs, "doctor", words, more + OVERRIDES)
    _source(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def _data(verbs: Any) -> None:
    parser = _verb(verbs, "data", "look at pictures and captions before a run")
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=_Parser
    )
    for name, action in DATA_ACTIONS.items():
        action.arguments(_verb(actions, name, action.WORDS, action.MORE))


def _benchmark(verbs: Any) -> None:
    parser = _verb(verbs, "benchmark", "run the method and its alternatives side by side")
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=_Parser
    )
    benchmark.arguments(_verb(actions, "run", benchmark.WORDS, benchmark.MORE + RESUME), _count)


def _config(verbs: Any) -> None:
    parser = _verb(
        verbs, "config", "print the settings as TOML, each with what it means", OVERRIDES
    )
    _source(parser)
    parser.add_argument("--schema", action="store_true", help="print the JSON schema instead")


def _source(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    source.add_argument("--preset", metavar="NAME", help=f"settings by name: {PRESETS}")


def _out(
    parser: argparse.ArgumentParser, default: Path | None = None, words: str = "run folder"
) -> None:
    words += f" ({default})" if default else "; made if it is not there"
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=default, required=default is None, help=words
    )


def _dry_and_redo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and its work, start nothing"
    )
    parser.add_argument(
        "--redo",
        action="store_true",
        help="do again what changed settings touch; everything, if none has changed",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but is {text!r}")
    return int(text)


def _strength(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, but is {text!r}")
    return value
