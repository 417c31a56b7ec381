"""Folders of exported faces with their labels, as a user would have them."""

import csv

import numpy as np
from PIL import Image

from invdiff.data.sets.drawn import faces


def export(folder, count, start=0):
    """``count`` balanced faces as PNG, from ``start`` of a mixed order; metadata.csv has gender."""
    pictures, genders = faces.pictures("balanced"), faces.attributes("balanced")["gender"]
    rows = np.random.default_rng(3).permutation(len(pictures))[start : start + count]
    folder.mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file_name", "gender"])
        for row in rows:
            Image.fromarray(pictures[row]).save(folder / f"{row}.png")
            table.writerow([f"{row}.png", genders[row]])
    return folder
