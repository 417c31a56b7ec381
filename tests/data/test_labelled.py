"""Labelled pictures for a classifier: each once, with its label, or a reason."""

import csv

import numpy as np
import pytest
from PIL import Image

from invdiff.data.gallery import open_labelled
from invdiff.errors import DataError


def folder_of(place, labels, repeat=(), damaged=()):
    """Pictures 0.png, 1.png ... with a metadata.csv; ``repeat`` are (copy, of)."""
    place.mkdir()
    random = np.random.default_rng(0)
    contents = {}
    for k in range(len(labels)):
        Image.fromarray(random.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(
            place / f"{k}.png"
        )
        contents[k] = (place / f"{k}.png").read_bytes()
    for copy, of in repeat:
        (place / f"{copy}.png").write_bytes(contents[of])
    for k in damaged:
        (place / f"{k}.png").write_bytes(contents[k][:50])
    with (place / "metadata.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file_name", "kind"])
        rows.writerows([f"{k}.png", label] for k, label in enumerate(labels))
    return place


def test_each_picture_counts_once_and_needs_no_caption(tmp_path):
    labels = ["a", "b", "a", "", " b ", "a"] + ["a", "b"] * 20
    place = folder_of(tmp_path / "p", labels, repeat=[(2, 0)], damaged=[5])
    found = open_labelled(place, "kind", 8)
    assert found.pictures.shape == (43, 8, 8, 3)
    assert found.labels == ("a", "b", "b", *["a", "b"] * 20)
    assert found.left_out == {"no label": 1, "unusable": 1, "repeated": 1}


def test_one_picture_with_two_labels_is_an_error(tmp_path):
    place = folder_of(tmp_path / "p", ["a", "b", "b"], repeat=[(2, 0)])
    with pytest.raises(DataError, match=r"2\.png is in .* twice, as 'a' and as 'b'"):
        open_labelled(place, "kind", 8)


@pytest.mark.parametrize(
    ("labels", "damaged", "said"),
    [
        (["a"] * 4, [], "has 1 label on"),
        (["a", "b"] * 4, [1], "1 of 8 pictures"),
    ],
)
def test_too_little_is_an_error(tmp_path, labels, damaged, said):
    with pytest.raises(DataError, match=said):
        open_labelled(folder_of(tmp_path / "p", labels, damaged=damaged), "kind", 8)
    with pytest.raises(DataError, match="no column 'other'"):
        open_labelled(tmp_path / "p", "other", 8)
