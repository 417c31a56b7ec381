"""What differs between the files of two folders alone, and pictures that are left out of them."""

import json
import re

import numpy as np
import pytest
from PIL import Image, ImageCms

import invdiff
from invdiff.app.cli import main
from invdiff.data.samples import picture_id
from invdiff.data.sets.drawn import faces


def saved(root, save, seed=1):
    """40 faces as ``save(picture, path without suffix)`` stores them; other ones for each seed."""
    root.mkdir()
    pictures = faces.pictures("balanced")
    rows = np.random.default_rng(seed).permutation(len(pictures))[:40]
    for number, row in enumerate(rows):
        save(Image.fromarray(pictures[row]), root / f"{number:03d}")
    return root


def as_png(picture, path):
    picture.save(path.with_suffix(".png"))


def measure(first, second, out, **options):
    return invdiff.evaluate_folders(
        first, second, out, extractors=["pixels"], resamples=100, **options
    )


def differences(record):
    return [text for text in record["warnings"] if text.startswith("The files of the sets differ")]


@pytest.mark.parametrize("kind", ["png", "bmp"])
def test_sets_that_are_stored_without_loss_get_no_line(tmp_path, kind):
    sets = (
        saved(tmp_path / "a", as_png),
        saved(tmp_path / "b", lambda p, path: p.save(path.with_suffix(f".{kind}")), seed=2),
    )
    assert differences(measure(*sets, tmp_path / "out")) == []


def test_one_file_of_another_kind_is_chance(tmp_path):
    sets = saved(tmp_path / "a", as_png), saved(tmp_path / "b", as_png, seed=2)
    first = sets[1] / "000.png"
    Image.open(first).save(first.with_suffix(".jpg"))
    first.unlink()
    assert differences(measure(*sets, tmp_path / "out")) == []


WIDE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@pytest.mark.parametrize(
    ("save", "told"),
    [
        (
            lambda p, path: p.save(path.with_suffix(".jpg"), quality=75),
            "format: a lossless (40); b JPEG",
        ),
        (lambda p, path: p.save(path.with_suffix(".webp")), "format: a lossless (40); b WEBP (40)"),
        (lambda p, path: as_png(p.convert("P"), path), "kind of pixels: a RGB (40); b P (40)"),
        (
            lambda p, path: p.save(path.with_suffix(".png"), icc_profile=WIDE),
            "colour profile: a sRGB (40); b Lab identity",
        ),
        (
            lambda p, path: as_png(p.resize((16, 16)).resize((32, 32)), path),
            "finest detail, which alone tells the set in 100% of pairs",
        ),
    ],
)
def test_what_alone_makes_the_files_differ_is_named(tmp_path, save, told):
    sets = saved(tmp_path / "a", as_png), saved(tmp_path / "b", save)
    (line,) = differences(measure(*sets, tmp_path / "out"))
    assert told in line


def test_pictures_that_are_resized_here_are_named_with_their_sizes(tmp_path):
    second = saved(tmp_path / "b", lambda p, path: as_png(p.resize((128, 128)), path))
    found = differences(measure(saved(tmp_path / "a", as_png), second, tmp_path / "out", side=32))
    assert "size (brought to 32 x 32 here): a 32 x 32 (40); b 128 x 128 (40)" in found[0]


def test_coarser_jpeg_is_another_format(tmp_path):
    def save(quality):
        return lambda picture, path: picture.save(path.with_suffix(".jpg"), quality=quality)

    sets = [saved(tmp_path / name, save(quality)) for name, quality in (("a", 95), ("b", 60))]
    (line,) = differences(measure(*sets, tmp_path / "out"))
    assert re.search(r"a JPEG with quantiser 5\.\d \(40\); b JPEG with quantiser 4\d\.\d", line)


def test_pictures_of_one_colour_are_told(tmp_path):
    first, second = saved(tmp_path / "a", as_png), saved(tmp_path / "b", as_png)
    for number in range(5):
        Image.new("RGB", (32, 32)).save(second / f"{number:03d}.png")
    record = measure(first, second, tmp_path / "out")
    assert record["sets"]["b"]["one_colour"] == [f"{number:03d}.png" for number in range(5)]
    (line,) = [text for text in record["warnings"] if "of one colour" in text]
    assert "b: 5 of 40 pictures" in line
    assert "000.png, 001.png, 002.png and 2 more" in line


def test_broken_pictures_of_a_reference_can_be_left_out_and_are_told(tmp_path):
    sets = [saved(tmp_path / name, as_png) for name in ("a", "b", "reference")]
    (sets[2] / "bad.png").write_bytes(b"half a picture")
    with pytest.raises(invdiff.errors.DataError, match=r"1 of 41 .*bad\.png.*--max-bad-share"):
        measure(*sets[:2], tmp_path / "out", reference=sets[2])
    assert not (tmp_path / "out" / "metrics.json").exists()
    found = measure(*sets[:2], tmp_path / "out", reference=sets[2], max_bad_share=0.05)
    known = found["sets"]["reference"]
    assert (known["images"], known["left_out"][0][0]) == (40, "bad.png")
    (line,) = [text for text in found["warnings"] if "left out" in text]
    assert "reference: 1 of 41 pictures were left out: bad.png: not a picture" in line


def test_a_quarantine_list_leaves_pictures_out_of_a_reference(tmp_path):
    sets = [saved(tmp_path / name, as_png) for name in ("a", "b", "reference")]
    (sets[2] / "bad.png").write_bytes(b"half a picture")
    listed = tmp_path / "list.csv"
    identity = picture_id(b"half a picture")
    listed.write_text(f"name,kind,reason,picture\nbad.png,unreadable,no picture,{identity}\n")
    with pytest.raises(invdiff.errors.DataError, match=r"bad\.png"):
        measure(*sets[:2], tmp_path / "out", reference=sets[2])
    words = ["evaluate", *map(str, sets[:2]), "--reference", str(sets[2]), "--extractor", "pixels"]
    words += ["--quarantine", str(listed), "--resamples", "100", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    known = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["reference"]
    assert known["images"] == 40
