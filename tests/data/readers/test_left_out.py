"""Nothing of a source is passed over: what is meant is taken, what is not is told with its name."""

import io
import json
import logging
import os
import tarfile
from pathlib import Path

import pytest

from invdiff.data import sources
from invdiff.data.gallery import open_gallery
from invdiff.data.sources import open_samples
from invdiff.errors import DataError
from tests.data import tiny_sources as tiny
from tests.data.tiny_sources import HAT, PLAIN


@pytest.fixture(autouse=True)
def every_word(caplog: pytest.LogCaptureFixture) -> None:
    sources.warn_once.cache_clear()
    caplog.set_level(logging.WARNING)


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def test_keys_with_dots_and_named_parts_are_taken(tmp_path: Path, caplog) -> None:
    members = {
        "22.05.png": tiny.png(0),
        "22.05.txt": HAT.encode(),
        "22.06.txt": PLAIN.encode(),
        "22.06.png": tiny.png(1),
        "s0.input.jpg": tiny.png(2),
        "s0.txt": HAT.encode(),
        "a.png": tiny.png(3),
        "a.mask.png": tiny.png(4),
        "a.caption.txt": PLAIN.encode(),
    }
    samples = open_samples(tar_of(tmp_path / "x.tar", members), 8)
    assert samples.prompt == (HAT, PLAIN, HAT, PLAIN)
    assert "left out 1 file: x.tar/a.mask.png: a part of a" in caplog.text


def test_a_caption_is_never_that_of_another_picture(tmp_path: Path) -> None:
    members = {
        "1.0.png": tiny.png(0),
        "1.0.txt": HAT.encode(),
        "1.1.png": tiny.png(1),  # its caption is lost
        "1.2.txt": PLAIN.encode(),  # its picture is lost
    }
    samples = open_samples(tar_of(tmp_path / "x.tar", members), 8, max_bad_share=0.9)
    assert samples.prompt == (HAT,)
    assert dict(samples.quarantined) == {
        "x.tar/1.1.png": "its prompt is empty",
        "x.tar/1.2": "no picture beside its other members (1.2)",
    }


def test_two_parts_of_which_neither_is_the_picture(tmp_path: Path) -> None:
    members = {f"s0.{part}.png": tiny.png(at) for at, part in enumerate(("input", "target"))}
    members |= {"s0.txt": b"x", "a.png": tiny.png(3), "a.txt": b"x"}
    samples = open_samples(tar_of(tmp_path / "x.tar", members), 8, max_bad_share=0.9)
    told = "more than one picture of one key: s0.input.png and s0.target.png"
    assert samples.quarantined == (("x.tar/s0.input.png", told),)


def test_kinds_that_are_not_read_are_told_in_every_reader(tmp_path: Path, caplog) -> None:
    tar = tar_of(tmp_path / "x.tar", {"a.png": tiny.png(0), "a.txt": b"x", "b.heic": b"x"})
    open_samples(tar, 8)
    assert "left out 1 file: x.tar/b.heic: this kind is not read" in caplog.text
    folder = tiny.folder_with_captions(tmp_path / "folder")
    (folder / "deep" / "z.HEIC").write_bytes(b"x")
    (folder / "more.tar").write_bytes(b"x")
    open_samples(folder, 8)
    assert "left out 2 files: deep/z.HEIC: pictures of this kind are not read" in caplog.text
    assert "more.tar: give its own path" in caplog.text
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no pictures \(a.heic: pictures of this kind"):
        open_samples(tmp_path / "only", 8)


def test_shards_beside_those_that_are_read_are_told(tmp_path: Path, caplog) -> None:
    tar_of(tmp_path / "a.tar", {"a.png": tiny.png(0), "a.txt": b"x"})
    (tmp_path / "more").mkdir()
    tar_of(tmp_path / "more" / "b.tar", {"b.png": tiny.png(1), "b.txt": b"x"})
    assert len(open_samples(tmp_path, 8)) == 1
    assert "left out 1 file: more/b.tar: give its own path" in caplog.text


def test_pictures_that_the_metadata_does_not_list(tmp_path: Path, caplog) -> None:
    tiny.folder_with_metadata(tmp_path)
    tiny.write_pictures(tmp_path, ["x.png", "deep/y.png"])
    assert len(open_samples(tmp_path, 8)) == 3
    assert "left out 2 files: deep/y.png: metadata.csv does not list it; x.png" in caplog.text


def test_captions_beside_those_that_count(tmp_path: Path, caplog) -> None:
    """A metadata file, and caption files that someone edits and nobody reads."""
    tiny.folder_with_metadata(tmp_path)
    listed = open_samples(tmp_path, 8)
    assert not caplog.text
    (tmp_path / Path(listed.name[0]).with_suffix(".txt")).write_text("edited")
    (tmp_path / "notes.txt").write_text("of no picture")
    (tmp_path / "deep/metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}')
    sources.warn_once.cache_clear()
    assert open_samples(tmp_path, 8).caption == listed.caption
    assert "left out 2 files: deep/metadata.jsonl: metadata.csv above it counts" in caplog.text
    assert ".txt: metadata.csv has the captions" in caplog.text


def test_a_sample_of_a_tar_whose_captions_differ(tmp_path: Path, caplog) -> None:
    members = {}
    for at, (own, other) in enumerate(((HAT, PLAIN), (HAT, f"{HAT} "))):
        members[f"{at}.png"] = tiny.png(at)
        members[f"{at}.json"] = json.dumps({"caption": other}).encode()
        members[f"{at}.txt"] = f"{own}\n".encode()
    assert open_samples(tar_of(tmp_path / "x.tar", members), 8).caption == (HAT, HAT)
    assert "left out 1 file: x.tar/0: its caption file and its .json differ" in caplog.text


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JFIF"])
def test_other_names_of_jpeg(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(tiny.encode(tiny.picture(0), "JPEG"))
    (tmp_path / "a.txt").write_text(HAT)
    assert open_samples(tmp_path, 8).prompt == (HAT,)
    members = {f"a{suffix}": tiny.encode(tiny.picture(0), "JPEG"), "a.txt": HAT.encode()}
    assert open_samples(tar_of(tmp_path / "x.tar", members), 8).prompt == (HAT,)


def test_caption_files_of_other_trainers(tmp_path: Path, caplog) -> None:
    tiny.write_pictures(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "a.caption").write_text(HAT)
    (tmp_path / "b.txt").write_text(PLAIN)
    (tmp_path / "b.caption").write_text("another")
    (tmp_path / "c.png.txt").write_text(HAT)
    (tmp_path / "notes.txt").write_text("x")
    assert open_samples(tmp_path, 8).prompt == (HAT, PLAIN, HAT)
    assert "left out 2 files: b.caption: b.txt is the caption of b.png; notes.txt: no pict" in (
        caplog.text
    )


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_caption_file_of_several_lines_has_several_captions(tmp_path, kind, caplog) -> None:
    names = [f"{number}.png" for number in range(20)]
    tiny.write_pictures(tmp_path, names)
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text("one\n\n two \n" if number else "one\n")
    path = tmp_path
    if kind == "tar":
        files = {file.name: file.read_bytes() for file in sorted(tmp_path.iterdir())}
        path = tar_of(tmp_path / "x.tar", files)
    assert open_samples(path, 8).prompts() == ("one", "two")
    assert "19 caption files with several lines: each line is a caption" in caplog.text


def test_linked_folders_belong_to_it_and_circles_end(tmp_path: Path) -> None:
    outside = tiny.folder_with_captions(tmp_path / "outside")
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (outside / "back").symlink_to(folder)
    (folder / "self").symlink_to(folder)
    assert len(open_samples(folder, 8)) == 3
    assert open_gallery(folder, size=8).names[0] == "link/a.png"


def test_a_name_that_is_no_text(tmp_path: Path, caplog) -> None:
    tiny.folder_with_captions(tmp_path)
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(tiny.png(5))
    assert len(open_samples(tmp_path, 8)) == 3
    assert r"left out 1 file: caf\udce9.png: its name is not UTF-8 text; rename it" in (caplog.text)


def test_two_pictures_share_a_caption_file(tmp_path: Path) -> None:
    for at, name in enumerate(("a.png", "a.jpg")):
        (tmp_path / name).write_bytes(tiny.png(at))
    (tmp_path / "a.txt").write_text(HAT)
    assert open_samples(tmp_path, 8).prompt == (HAT, HAT)


def test_of_two_texts_of_one_picture_one_is_the_caption_and_the_other_told(tmp_path, caplog):
    path = tmp_path / "a.tar"
    texts = [("a.txt", "first"), ("a.txt", "last"), ("b.txt", "own"), ("b.caption", "other")]
    with tarfile.open(path, "w") as tar:
        for name, content in [
            *((f"{key}.png", tiny.png(at)) for at, key in enumerate("ab")),
            *((name, text.encode()) for name, text in texts),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with caplog.at_level(logging.WARNING):
        samples = open_samples(path, 8)
    assert samples.caption == ("last", "own")
    told = " ".join(caplog.messages)
    assert "a.tar/a.txt: it comes more than once, the last counts" in told
    assert "a.tar/b.caption: b.txt is the caption" in told


def test_a_key_that_stands_twice_in_json_is_told(tmp_path: Path) -> None:
    """As a column that a CSV names twice; JSON would take the last."""
    row = '{"file_name": "a.png", "caption": "one", "caption": "two"}'
    tiny.write_pictures(tmp_path / "x", ["a.png"])
    (tmp_path / "x/metadata.jsonl").write_text(row)
    with pytest.raises(DataError, match="line 1 is not valid JSON: 'caption' stands in it twice"):
        open_samples(tmp_path / "x", 8)
    members = {"a.png": tiny.png(0), "a.json": row.encode(), "b.png": tiny.png(1), "b.txt": b"b"}
    samples = open_samples(tar_of(tmp_path / "x.tar", members), 8, max_bad_share=0.9)
    assert samples.caption == ("b",)
    assert "'caption' stands in it twice" in dict(samples.quarantined)["x.tar/a.png"]
