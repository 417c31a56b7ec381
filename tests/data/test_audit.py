"""What `audit` says about each kind of damage, and which pictures look alike."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from invdiff.data.audit import (
    BITS,
    KINDS,
    MOST_BITS,
    SIDE,
    Audit,
    Likeness,
    audit,
    perceptual_hash,
    thumbnail,
)
from invdiff.data.samples import picture_id
from invdiff.data.sets.drawn import faces
from invdiff.data.sources import open_samples
from tests.data import tiny_sources as tiny
from tests.data.tiny_sources import HAT, PLAIN

FACES = faces.pictures("train")


def photo(number: int, side: int = 64) -> Image.Image:
    """A face, enlarged: something to look at, unlike the flat pictures of tiny_sources."""
    return Image.fromarray(FACES[number]).resize((side, side), Image.Resampling.BICUBIC)


def put(folder: Path, name: str, content: bytes, caption: str | None = HAT) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    if caption is not None:
        (folder / name).with_suffix(".txt").write_text(caption)


def kinds(found: Audit) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for finding in found.findings:
        names.setdefault(finding.name, []).append(finding.kind)
    return names


def damaged(folder: Path) -> Path:
    """Pictures of which each has one thing wrong, but for the first two."""
    good = tiny.encode(photo(0))
    jpeg = tiny.encode(photo(40, 128), "JPEG")
    put(folder, "a-good.png", good)
    put(folder, "b-good.png", tiny.encode(photo(40)), PLAIN)
    put(folder, "bomb.png", tiny.bomb(20000, 20000))
    put(folder, "copy.png", good)
    put(folder, "cut.jpg", jpeg[: len(jpeg) // 2])
    put(folder, "cut.png", good[: len(good) // 2])
    put(folder, "empty.png", b"")
    put(folder, "mute.png", tiny.encode(photo(80)), " \n")
    put(folder, "page.jpg", b"<html>")
    put(folder, "small.png", tiny.encode(photo(120, 31)))
    put(folder, "speechless.png", tiny.encode(photo(160)), None)
    return folder


def test_each_kind_of_damage(tmp_path: Path) -> None:
    found = audit(damaged(tmp_path))
    assert kinds(found) == {
        "bomb.png": ["oversized"],
        "copy.png": ["duplicate"],
        "cut.jpg": ["truncated"],
        "cut.png": ["truncated"],
        "empty.png": ["unreadable"],
        "mute.png": ["no caption"],
        "page.jpg": ["unreadable"],
        "small.png": ["tiny"],
        "speechless.png": ["no caption"],
    }
    counts = {"unreadable": 2, "truncated": 2, "oversized": 1, "no caption": 2, "tiny": 1}
    assert found.counts() == dict.fromkeys(KINDS, 0) | counts | {"duplicate": 1}
    assert (found.pictures, found.usable()) == (11, 4)
    reasons = {finding.name: finding.reason for finding in found.findings}
    assert reasons["copy.png"] == "duplicate of a-good.png"
    assert reasons["small.png"] == "31 x 31 pixels: the shorter side has less than 32"
    ids = {finding.name: finding.picture for finding in found.findings}
    assert ids["cut.png"] == picture_id((tmp_path / "cut.png").read_bytes())


def test_what_it_calls_unusable_is_what_a_run_leaves_out(tmp_path: Path) -> None:
    found = audit(damaged(tmp_path))
    unusable = {name for name, (kind,) in kinds(found).items() if kind not in ("tiny",)}
    samples = open_samples(tmp_path, 8, max_bad_share=1)
    assert {name for name, _ in samples.quarantined} == unusable


def test_a_broken_picture_without_a_caption_has_two_faults(tmp_path: Path) -> None:
    put(tmp_path, "a.png", tiny.encode(photo(0)))
    put(tmp_path, "b.png", b"broken", None)
    found = audit(tmp_path)
    assert kinds(found) == {"b.png": ["unreadable", "no caption"]}
    assert found.usable() == 1


def test_missing_pictures(tmp_path: Path) -> None:
    tiny.folder_with_metadata(tmp_path)
    (tmp_path / "b.png").unlink()
    found = audit(tmp_path, least_side=8)
    assert kinds(found)["b.png"] == ["missing"]
    assert next(f.picture for f in found.findings if f.name == "b.png") == ""


@pytest.mark.parametrize(("side", "tiny_ones"), [(8, 0), (9, 3)])
def test_the_least_side_counts_stored_pixels_of_packed_pictures(
    tmp_path: Path, side: int, tiny_ones: int
) -> None:
    found = audit(tiny.npz(tmp_path / "x.npz"), least_side=side)
    assert found.counts()["tiny"] == tiny_ones


def test_the_same_picture_with_another_caption_is_no_duplicate(tmp_path: Path) -> None:
    put(tmp_path, "a.png", tiny.encode(photo(0)), HAT)
    put(tmp_path, "b.png", tiny.encode(photo(0)), PLAIN)
    (finding,) = audit(tmp_path).findings
    assert finding.kind == "near-duplicate"
    assert finding.reason == "the picture of a.png with another caption"


# Likeness


def at_side(image: Image.Image) -> np.ndarray:
    return np.array(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def recoded(image: Image.Image) -> Image.Image:
    return Image.open(io.BytesIO(tiny.encode(image, "JPEG", quality=60))).convert("RGB")


@pytest.mark.parametrize(
    "change",
    [
        recoded,
        lambda image: image.resize((96, 96)),
        lambda image: Image.eval(image, lambda value: min(255, value + 3)),
    ],
    ids=["recompressed", "resized", "brighter"],
)
def test_a_changed_copy_is_found(change) -> None:  # type: ignore[no-untyped-def]
    found = 0
    for number in range(0, 400, 20):
        likeness = Likeness()
        likeness.find_or_add("original", at_side(photo(number, 128)))
        found += likeness.find_or_add("copy", at_side(change(photo(number, 128)))) == "original"
    assert found >= 19, "of 20"


def test_another_colour_is_another_picture() -> None:
    likeness = Likeness()
    face = at_side(photo(0))
    assert likeness.find_or_add("a", face) is None
    darker = (face // 2).astype(np.uint8)
    near = (perceptual_hash(face) ^ perceptual_hash(darker)).bit_count()
    assert near <= MOST_BITS, "the colour decides"
    assert likeness.find_or_add("b", darker) is None
    assert likeness.find_or_add("c", face) == "a"


def test_buckets_find_what_comparing_all_pairs_finds() -> None:
    pictures = list(FACES[:300])
    likeness, leaders, expected = Likeness(), [], []
    for number, picture in enumerate(pictures):
        own, small = perceptual_hash(picture), thumbnail(picture)
        near = [
            name
            for name, hashed, seen in leaders
            if (own ^ hashed).bit_count() <= MOST_BITS and np.abs(small - seen).mean() <= 4
        ]
        expected.append(near[0] if near else None)
        if not near:
            leaders.append((str(number), own, small))
    assert [likeness.find_or_add(str(n), one) for n, one in enumerate(pictures)] == expected
    assert 0 < len(pictures) - len(leaders) < 60, "cartoon faces are alike, not all the same"


def test_a_bit_of_the_hash_is_a_cell_brighter_than_the_mean() -> None:
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[:4, 4:8] = 255  # the second cell of the first row
    picture[-4:, -4:] = 255  # the last cell
    assert f"{perceptual_hash(picture):0{BITS}b}" == "01" + "0" * 61 + "1"


def test_animated_pictures_and_those_of_one_colour_are_told(tmp_path):
    frames = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (40, 40, 3), np.uint8))
              for k in range(3)]  # fmt: skip
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[1].save(tmp_path / "b.webp", save_all=True, append_images=frames[2:], lossless=True)
    Image.new("RGB", (40, 40), "black").save(tmp_path / "c.png")
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text("a hat")
    found = audit(tmp_path)
    assert [(one.name, one.kind) for one in found.findings] == [
        ("a.gif", "animated"), ("b.webp", "animated"), ("c.png", "one colour")
    ]  # fmt: skip
    assert "3 pictures in one file: the first is taken" in found.findings[0].reason
    assert found.usable() == 3
