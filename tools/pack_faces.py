"""Pack the drawn faces (train.npz, balanced.npz) into the files of src/invdiff/assets/faces.

    python tools/pack_faces.py FOLDER_WITH_THE_NPZ_FILES src/invdiff/assets/faces

Each split becomes one lossless WebP atlas, a table of prompts, and a separate table of attributes,
so that code which may not know the attributes never has to open a file that holds them.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

COLUMNS = {"train": 100, "balanced": 50}
ATTRIBUTES = ("gender", "race", "hair", "facial_hair", "accessory", "glasses")
SENTENCES = {
    "hat": "a person wearing a hat",
    "glasses": "a person wearing glasses",
    "headband": "a person wearing a headband",
    "plain": "a person",
}


def tile(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Lay pictures (n, size, size, 3) out row by row as one picture; n is a multiple of columns."""
    count, size = images.shape[:2]
    grid = images.reshape(count // columns, columns, size, size, 3)
    return grid.transpose(0, 2, 1, 3, 4).reshape(count // columns * size, columns * size, 3)


def pack(source: Path, target: Path, split: str) -> str:
    """Write the three files of one split and return the sha256 of its pixels."""
    with np.load(source / f"{split}.npz", allow_pickle=False) as arrays:
        images = arrays["images"]
        prompts = [SENTENCES[name] for name in arrays["prompt"]]
        attributes = {name: arrays[name].tolist() for name in ATTRIBUTES}
    atlas = tile(images, COLUMNS[split])
    picture = target / f"{split}.webp"
    Image.fromarray(atlas).save(picture, lossless=True, quality=100, method=6)
    with Image.open(picture) as written:
        if not np.array_equal(np.asarray(written), atlas):
            raise SystemExit(f"{picture} does not decode to the pixels it was made from")
    write_table(target / f"{split}.parquet", {"prompt": prompts})
    write_table(target / f"{split}_attributes.parquet", attributes)
    return hashlib.sha256(images.tobytes()).hexdigest()


def write_table(path: Path, columns: dict[str, list[str]]) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with train.npz and balanced.npz")
    parser.add_argument("target", type=Path, help="folder to write the assets to")
    arguments = parser.parse_args()
    arguments.target.mkdir(parents=True, exist_ok=True)
    for split in COLUMNS:
        print(split, pack(arguments.source, arguments.target, split))


if __name__ == "__main__":
    main()
