"""Your own model and your own folder of captioned pictures.

    python examples/02_own_folder.py --model MODEL --pictures FOLDER --out RUN

MODEL is a folder in diffusers format or a hub id, FOLDER holds pictures and a `metadata.csv` (or
`.jsonl`) with the columns `file_name` and `caption`. Groups are looked for among pictures of one
caption, so captions have to repeat, at least 40 times. Without these options the example makes both
from the embedded faces, so that you can see what they look like.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import invdiff
from invdiff.data.sets import builtin
from invdiff.data.sets.drawn import faces

FACES = str(builtin.set_folder("faces") / "classifier.safetensors")


def make_pictures(folder: Path, each: int) -> Path:
    """Lay out ``each`` pictures of every prompt as a folder of your own would be."""
    pictures, captions = faces.pictures("train"), np.array(faces.prompts("train"))
    folder.mkdir(parents=True, exist_ok=True)
    table = [("file_name", "caption")]
    random = np.random.default_rng(0)  # the set is not stored in a random order
    for caption in np.unique(captions):
        for row in random.permutation(np.flatnonzero(captions == caption))[:each]:
            name = f"{row:04d}.png"
            Image.fromarray(pictures[row]).save(folder / name)
            table.append((name, str(caption)))
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    return folder


def settings(model: str, classifier: str, quick: bool) -> dict[str, Any]:
    """What differs from the defaults."""
    evaluate = {"classifier": classifier}
    if classifier == FACES:
        evaluate["attribute"] = "gender"
    nested: dict[str, Any] = {"model": {"path": model}, "evaluate": evaluate}
    if quick:  # enough to see that everything works; the figures of such a run show nothing
        nested |= {
            "processes": 1,
            "discover": {"images_per_prompt": 60, "levels": [0.98, 0.9]},
            "train": {"steps": 10},
            "calibrate": {"images_per_prompt": 4, "strengths": [1.0]},
            "sample": {"images_per_prompt": 4, "guidance_scales": [2.5], "steps": 4},
        }
    return nested


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--pictures", type=Path, help="your folder of captioned pictures")
    asked.add_argument("--model", help="a folder in diffusers format or a hub id")
    asked.add_argument("--preset", help="settings to begin with, such as sd15, sdxl or flux")
    asked.add_argument("--classifier", help="who is on the pictures, as evaluate.classifier takes")
    asked.add_argument("--out", type=Path, default=Path("runs/own"), help="the run folder")
    asked.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    options = asked.parse_args()

    made = options.out.with_name(f"{options.out.name}-pictures")
    pictures = options.pictures or make_pictures(made, 60 if options.quick else 600)
    model = options.model or str(builtin.set_folder("faces") / "base")
    # "none": without a classifier the report has an estimate by the model that found the groups.
    classifier = options.classifier or ("none" if options.pictures else FACES)
    run = invdiff.Run(
        options.out,
        settings(model, classifier, options.quick),
        data=pictures,
        preset=options.preset,
    )
    run.discover()
    print(run.groups)
    run.run_all()
    print(run)
    print("use it in diffusers: invdiff.attach(pipeline, ...), see docs; the adapter is in")
    print(run.path / "adapter")


if __name__ == "__main__":  # worker processes import this file
    main()
