"""A folder of pictures with these captions, no two of them alike."""

import csv

import numpy as np
from PIL import Image


def write_captioned(folder, captions):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    with (folder / "metadata.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file_name", "caption"])
        for at, caption in enumerate(captions):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{at}.png")
            rows.writerow([f"{at}.png", caption])
    return folder
