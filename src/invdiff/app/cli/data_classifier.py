"""`invdiff data classifier`: from labelled pictures to a file for ``evaluate.classifier``."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invdiff.errors import ConfigError

WORDS = "train an attribute classifier on labelled pictures"
MORE = (
    "A fifth of the pictures is held out; how often the classifier is wrong on it stands in the "
    "file's header and corrects the shares of a report. The same command goes on where an "
    "interrupted one stopped."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="PATH",
        help="a folder of pictures with metadata, or .tar, .parquet or .npz files",
    )
    parser.add_argument(
        "--label-column", required=True, metavar="NAME", help="column with the labels"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the .safetensors file to write"
    )
    parser.add_argument(
        "--backbone",
        default="",
        metavar="MODEL",
        help="folder or cached hub id of a vision model of transformers, on whose features a "
        "linear layer is trained; without it a small network that sees 32 x 32 pixels",
    )
    parser.add_argument(
        "--steps", type=_steps, default=1000, metavar="N", help="steps of the small network (1000)"
    )
    parser.add_argument(
        "--split-seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the split and of training (0)",
    )


def learn(asked: argparse.Namespace) -> None:
    """Train, and say how good it is. ConfigError for a file name that cannot be used."""
    from invdiff.engine.classifiers.learn import learn as train

    if asked.out.suffix != ".safetensors":
        raise ConfigError(f"--out {asked.out} must end in .safetensors")
    column = asked.label_column
    facts = train(asked.source, column, asked.out, asked.backbone, asked.steps, asked.split_seed)
    print(table(facts, column))
    print(f"use it: --evaluate.classifier {asked.out}")


def table(facts: Mapping[str, Any], column: str) -> str:
    """Accuracy and the confusion matrix on the held-out pictures."""
    claim = facts["attributes"][column]
    left_out = [f"{count} {why}" for why, count in facts["left_out"].items() if count]
    rows = [[f"true {column}", *(f"called {name}" for name in claim["classes"])]]
    rows += [
        [name, *map(str, counts)]
        for name, counts in zip(claim["classes"], claim["confusion"], strict=True)
    ]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    trained = (
        f"{facts['trained_on']:,} pictures to train on, {facts['validated_on']:,} to choose with"
    )
    return "\n".join(
        [
            trained + (f"; left out: {', '.join(left_out)}" if left_out else ""),
            f"right on {claim['accuracy']:.1%} of {claim['held_out']:,} held-out pictures:",
            *lines,
        ]
    )


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but is {text!r}")
    return int(text)
