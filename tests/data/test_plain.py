"""Plain folders as they lie there: prompts, order, sizes, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from invdiff.data.gallery import open_gallery
from invdiff.errors import DataError


def fill(folder, names, size=(16, 16), seed=0):
    random = np.random.default_rng(seed)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def test_a_flat_folder_tells_no_prompts(tmp_path):
    found = open_gallery(fill(tmp_path, ["b.png", "a.png"]))
    assert (found.names, found.prompt, found.by) == (("a.png", "b.png"), ("", ""), "none")
    assert (found.size, found.repeated, len(found)) == ((16, 16), 0, 2)


def test_sub_folders_are_prompts(tmp_path):
    found = open_gallery(fill(tmp_path, ["a_hat/1.png", "a coat/1.png"]))
    assert (found.prompt, found.by) == (("a coat", "a hat"), "sub-folders")


def test_captions_are_read_as_a_run_reads_them(tmp_path):
    fill(tmp_path, ["1.png", "2.png"])
    rows = "file_name,caption,colour\n2.png,a hat,red\n1.png,a coat,blue\n"
    (tmp_path / "metadata.csv").write_text(rows)
    found = open_gallery(tmp_path)
    assert (found.prompt, found.by) == (("a hat", "a coat"), "captions")
    assert found.column("colour") == ("red", "blue")
    with pytest.raises(DataError, match="no column 'color'"):
        found.column("color")


def test_copies_count_and_are_told(tmp_path):
    fill(tmp_path, ["a.png", "b.png"])
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
    found = open_gallery(tmp_path)
    assert (len(found), found.repeated) == (3, 1)


def test_the_hash_knows_content_names_and_prompts(tmp_path):
    one = open_gallery(fill(tmp_path / "one", ["p/a.png"])).sha256
    assert open_gallery(fill(tmp_path / "two", ["p/a.png"])).sha256 == one
    assert open_gallery(fill(tmp_path / "three", ["q/a.png"])).sha256 != one
    assert open_gallery(fill(tmp_path / "four", ["p/a.png"], seed=1)).sha256 != one


def test_mixed_sizes_are_refused_unless_resized(tmp_path):
    fill(tmp_path, ["a.png", "b.png"])
    fill(tmp_path, ["c.png"], size=(20, 10))
    with pytest.raises(DataError, match=r"2 sizes \(2 are 16 x 16, but c.png is 20 x 10\).*--size"):
        open_gallery(tmp_path)
    found = open_gallery(tmp_path, size=8)
    assert found.pictures([0, 2], 8).shape == (2, 8, 8, 3)


def test_a_broken_picture_is_named_and_not_left_out(tmp_path):
    fill(tmp_path, ["a.png", "b.png"])
    (tmp_path / "b.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"1 of 2 pictures .* b.png: not a picture.*which is told"):
        open_gallery(tmp_path)


def test_an_empty_folder_is_one_line(tmp_path):
    with pytest.raises(DataError, match="holds no pictures"):
        open_gallery(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        open_gallery(tmp_path / "nowhere")
