"""`invdiff augment`: a training set with even inferred groups from the guided sampler."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORDS = "even out the data of a run with pictures of its guided sampler, or draw an even set"
MORE = (
    "Groups are inferred, of drawn pictures too. metadata.csv tells which pictures are synthetic, "
    "with the seed of each; docs/reference/files.md has its columns. The same command goes on "
    "where an interrupted one stopped."
)


def arguments(parser: argparse.ArgumentParser, count: Any, number: Any) -> None:
    """The options of the verb; ``count`` and ``number`` read whole and other numbers."""
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run folder whose training is done")
    add("--out", type=Path, required=True, metavar="DIR", help="new folder for the set")
    add(
        "--images-per-prompt",
        type=count,
        metavar="N",
        help="draw a set of its own, N pictures of each prompt; without it the pictures of the "
        "run's data and what their smaller groups lack",
    )
    add("--scale", type=number, metavar="W", help="guidance scale (the one of the calibration)")
    add("--strength", type=number, metavar="S", help="instead of the calibrated strength")


def problems(asked: argparse.Namespace) -> list[str]:
    """What is wrong with the words."""
    if asked.scale is not None and asked.scale < 1:
        return [f"--scale {asked.scale:g} is too small: give at least 1"]
    return []


def augment(asked: argparse.Namespace) -> None:
    """Do it, and say what there is now."""
    from invdiff.engine.augmentation.augment import augment as make
    from invdiff.engine.run.folder import RunFolder
    from invdiff.engine.workflow import session_of

    options = {"scale": asked.scale, "strength": asked.strength}
    run = RunFolder.read(asked.run)
    run.require("train", by="augment")
    record = make(session_of(run), asked.out, asked.images_per_prompt, **options)
    print(table(record["prompts"]))
    print(f"set: {asked.out}")


def table(prompts: Mapping[str, Mapping[str, Any]]) -> str:
    """Pictures of each prompt, real and synthetic by inferred group."""
    rows = [["prompt", "real", "synthetic", "together, by inferred group", "drawn"]]
    for prompt, entry in prompts.items():
        real, synthetic = entry["real"], entry["synthetic"]
        groups = sorted({*real, *synthetic})
        together = [f"{real.get(g, 0) + synthetic.get(g, 0)}" for g in groups]
        counts = [sum(real.values()), sum(synthetic.values())]
        rows.append([prompt, *map(str, counts), " / ".join(together), str(entry["drawn"])])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
