"""Pack further drawn faces (more.npz) that the other mixes need into src/invdiff/assets/faces/more.

    python tools/pack_more_faces.py more.npz src/invdiff/assets/faces/more

The pictures are drawn as those of `pack_faces.py`. Refuses pictures that the set has already.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from pack_faces import ATTRIBUTES, SENTENCES

from invdiff.data.sets.drawn.more_faces import BALANCED, GENDERS, MARGINAL, PROMPTS, RACE, RACES
from invdiff.data.sets.stored import SPLITS, DrawnSplit, StoredSet, open_set, write_drawn_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the npz file")
    parser.add_argument("target", type=Path, help="folder to write the assets to")
    arguments = parser.parse_args()
    with np.load(arguments.source, allow_pickle=False) as arrays:
        images = arrays["images"]
        prompts = [SENTENCES[name] for name in arrays["prompt"]]
        attributes = {name: arrays[name].tolist() for name in ATTRIBUTES}
    rows = needed(list(zip(prompts, attributes["gender"], attributes["race"], strict=True)))
    faces = open_set("faces")
    known = {one.tobytes() for split in SPLITS for one in faces.pictures(split)}
    fresh = {images[row].tobytes() for row in rows}
    if len(fresh) < len(rows) or fresh & known:
        raise SystemExit("some of the pictures are equal: draw others")
    drawn = DrawnSplit(
        images[rows],
        [prompts[row] for row in rows],
        {name: [values[row] for row in rows] for name, values in attributes.items()},
    )
    arguments.target.mkdir(parents=True, exist_ok=True)
    write_drawn_split(arguments.target, "train", drawn)
    if not np.array_equal(StoredSet(arguments.target).pictures("train"), images[rows]):
        raise SystemExit("the atlas does not decode to the pixels it was made from")
    print(f"{len(rows)} of {len(images)} pictures")


def needed(kinds: list[tuple[str, str, str]]) -> list[int]:
    """Rows of ``kinds``, for each kind as many as the embedded set lacks for the greediest mix."""
    faces = open_set("faces")
    own = faces.attributes("train")
    held = list(zip(faces.prompts("train"), own["gender"], own["race"], strict=True))
    left = {
        kind: max(BALANCED[kind], MARGINAL[kind], RACE[kind]) - held.count(kind)
        for kind in product(PROMPTS, GENDERS, RACES)
    }
    rows = []
    for row, kind in enumerate(kinds):
        if left[kind] > 0:
            left[kind] -= 1
            rows.append(row)
    if lacking := {kind: count for kind, count in left.items() if count > 0}:
        raise SystemExit(f"draw more: {lacking}")
    return rows


if __name__ == "__main__":
    main()
