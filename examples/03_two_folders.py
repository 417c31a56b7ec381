"""Two folders of pictures compared: which one is more even, and how sure is that?

    python examples/03_two_folders.py --first BEFORE --second AFTER --out COMPARED

Nothing is trained. The folders may come from anything: two models, a model and real pictures, two
prompts. Without the options the example makes them from the embedded faces, one with the skew that
a model was trained on and one with even shares. The same on the command line:

    invdiff evaluate BEFORE AFTER --classifier faces --out COMPARED
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

import invdiff
from invdiff.data.sets.drawn import faces
from invdiff.data.sets.stored import Split


def make_folder(folder: Path, split: Split, each: int) -> Path:
    """``each`` faces of every prompt, in a sub-folder for each and with a table of captions."""
    pictures, captions = faces.pictures(split), np.array(faces.prompts(split))
    table, random = [("file_name", "caption")], np.random.default_rng(0)
    for caption in np.unique(captions):
        place = folder / str(caption).replace(" ", "-")
        place.mkdir(parents=True, exist_ok=True)
        for row in random.permutation(np.flatnonzero(captions == caption))[:each]:
            Image.fromarray(pictures[row]).save(place / f"{row:04d}.png")
            table.append((f"{place.name}/{row:04d}.png", str(caption)))
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    return folder


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--first", type=Path, help="pictures before, or real ones")
    asked.add_argument("--second", type=Path, help="pictures to be judged")
    asked.add_argument("--out", type=Path, default=Path("runs/compared"))
    asked.add_argument("--classifier", default="faces", help="a file, clip:MODEL, siglip:MODEL ...")
    asked.add_argument("--quick", action="store_true", help="fewer pictures and resamples")
    options = asked.parse_args()

    each = 48 if options.quick else 400
    beside = options.out.with_name(f"{options.out.name}-pictures")
    first = options.first or make_folder(beside / "skewed", "train", each)
    second = options.second or make_folder(beside / "even", "balanced", each)
    record = invdiff.evaluate_folders(
        first,
        second,
        options.out,
        extractors=() if options.second else ("faces",),  # () takes the best that is installed
        classifier=options.classifier,
        resamples=200 if options.quick else 1000,
    )
    for figure in record["figures"]:
        if figure["figure"] == "bias":
            low, high = figure["low"], figure["high"]
            print(f"Bias, {figure['of']}: {figure['value']:.3f} [{low:.3f}, {high:.3f}]")
    print("all figures:", options.out / "report.html")


if __name__ == "__main__":  # worker processes import this file
    main()
