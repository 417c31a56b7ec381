"""Every kind of source gives the same samples; ids survive renaming and reordering."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invdiff.data import checking
from invdiff.data.samples import Samples, clean_prompt, sample_id
from invdiff.data.sources import open_samples, read_labels
from invdiff.errors import DataError
from tests.data import tiny_sources as tiny
from tests.data.tiny_sources import HAT, PLAIN

SOURCES: dict[str, Callable[[Path], Path]] = {
    "csv": lambda folder: tiny.folder_with_metadata(folder, "csv"),
    "jsonl": lambda folder: tiny.folder_with_metadata(folder, "jsonl"),
    "metadata.parquet": lambda folder: tiny.folder_with_metadata(folder, "parquet"),
    "captions": tiny.folder_with_captions,
    "npz": lambda folder: tiny.npz(folder / "faces.npz"),
    "parquet": lambda folder: tiny.parquet(folder / "faces.parquet"),
    "parquet struct": lambda folder: tiny.parquet(folder / "faces.parquet", "bytes"),
    "parquet paths": lambda folder: tiny.parquet(folder / "faces.parquet", "path"),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return SOURCES[request.param](tmp_path)


def test_each_kind_of_source(source: Path) -> None:
    samples = open_samples(source, 8)
    assert samples.prompt == (HAT, PLAIN, HAT)
    assert samples.prompts() == (PLAIN, HAT)
    assert samples.quarantined == ()
    assert len(set(samples.sample_id)) == len(samples) == 3
    expected = np.stack([np.asarray(tiny.picture(number)) for number in (2, 0)])
    assert np.array_equal(samples.pictures([2, 0]), expected)
    assert samples.pictures([]).shape == (0, 8, 8, 3)


def test_pictures_are_decoded_again_when_they_are_too_many(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = open_samples(source, 5)
    monkeypatch.setattr(checking, "IN_MEMORY_BYTES", 0)
    again = open_samples(source, 5)
    assert again.sample_id == in_memory.sample_id
    assert np.array_equal(again.pictures([1, 2, 1]), in_memory.pictures([1, 2, 1]))
    assert again.pictures([]).shape == (0, 5, 5, 3)


def test_a_picture_lost_after_opening_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "IN_MEMORY_BYTES", 0)
    samples = open_samples(tiny.folder_with_captions(tmp_path), 8)
    (tmp_path / "b.png").unlink()
    assert samples.pictures([0]).shape == (1, 8, 8, 3)
    with pytest.raises(DataError, match=r"^b\.png was fine when .* the file is missing; put it"):
        samples.pictures([1])


def test_changing_the_pictures_that_were_handed_out_changes_nothing(tmp_path: Path) -> None:
    samples = open_samples(tiny.folder_with_captions(tmp_path), 8)
    samples.pictures([0])[:] = 0
    assert samples.pictures([0]).any()


def by_picture(samples: Samples) -> dict[str, bytes]:
    pixels = samples.pictures(range(len(samples)))
    return {one: pixels[row].tobytes() for row, one in enumerate(samples.sample_id)}


def test_ids_are_those_of_the_file_and_the_prompt(tmp_path: Path) -> None:
    samples = open_samples(tiny.folder_with_metadata(tmp_path), 8)
    assert samples.sample_id[0] == sample_id(tiny.png(0), HAT)
    assert samples.sample_id[1] == sample_id(tiny.png(1), PLAIN)


def test_ids_do_not_depend_on_names_order_kind_or_size(tmp_path: Path) -> None:
    first = open_samples(tiny.folder_with_metadata(tmp_path / "one"), 8)
    other = tmp_path / "two"
    other.mkdir()
    rows = []
    for number in (2, 0, 1):
        (other / f"renamed-{number}.png").write_bytes(tiny.png(number))
        rows.append({"text": tiny.ROWS[number]["caption"], "file_name": f"renamed-{number}.png"})
    tiny.write_rows(other / "metadata.jsonl", rows)
    assert by_picture(open_samples(other, 8)) == by_picture(first)
    (tmp_path / "three").mkdir()
    packed = open_samples(tiny.parquet(tmp_path / "three" / "x.parquet"), 16)
    assert packed.sample_id == first.sample_id


@given(order=st.permutations(range(3)))
def test_any_order_of_the_rows_gives_the_same_table(
    order: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("order")
    images = np.stack([np.asarray(tiny.picture(number)) for number in order])
    prompts = np.array([tiny.ROWS[number]["caption"] for number in order])
    genders = np.array([tiny.ROWS[number]["gender"] for number in order])
    path = tiny.npz(folder / "x.npz", images=images, prompt=prompts, gender=genders)
    plain = tiny.npz(folder / "plain.npz")
    shuffled, straight = open_samples(path, 8), open_samples(plain, 8)
    assert by_picture(shuffled) == by_picture(straight)
    labels = read_labels(path, "gender", straight)
    assert labels == read_labels(plain, "gender", straight) == ("male", "female", "female")


@given(content=st.binary(max_size=8), text=st.text(max_size=8))
def test_an_id_tells_where_the_picture_ends(content: bytes, text: str) -> None:
    moved = sample_id(content + b"a", text)
    assert moved != sample_id(content, "a" + text)
    assert len(moved) == 16
    assert int(moved, 16) >= 0


@given(text=st.text())
def test_cleaning_a_prompt_twice_changes_nothing(text: str) -> None:
    once = clean_prompt(text)
    assert clean_prompt(once) == once
    assert "\n" not in once


def test_prompts_that_differ_in_white_space_are_one(tmp_path: Path) -> None:
    tiny.write_pictures(tmp_path, ["a.png", "b.png"])
    tiny.write_rows(
        tmp_path / "metadata.csv",
        [{"file_name": "a.png", "text": " a  person\n"}, {"file_name": "b.png", "text": PLAIN}],
    )
    assert open_samples(tmp_path, 8).prompts() == (PLAIN,)


def test_the_prompt_column_can_be_named(tmp_path: Path) -> None:
    assert open_samples(tiny.folder_with_metadata(tmp_path), 8, "gender").prompts() == (
        "female",
        "male",
    )


def test_caption_comes_before_text_and_prompt(tmp_path: Path) -> None:
    tiny.write_pictures(tmp_path, ["a.png"])
    row = {"file_name": "a.png", "prompt": "third", "text": "second", "caption": "first"}
    tiny.write_rows(tmp_path / "metadata.csv", [row])
    assert open_samples(tmp_path, 8).prompts() == ("first",)


def test_metadata_decides_although_there_are_caption_files(tmp_path: Path) -> None:
    tiny.folder_with_captions(tmp_path)
    tiny.write_rows(
        tmp_path / "metadata.csv", [{"file_name": "a.png", "caption": "from the table"}]
    )
    assert open_samples(tmp_path, 8).prompt == ("from the table",)


def test_hidden_files_and_folders_do_not_count(tmp_path: Path) -> None:
    tiny.folder_with_captions(tmp_path)
    tiny.write_pictures(tmp_path, [".hidden.png", ".cache/x.png", "._a.png"])
    assert len(open_samples(tmp_path, 8)) == 3


def test_text_stored_as_bytes_in_npz(tmp_path: Path) -> None:
    path = tiny.npz(tmp_path / "x.npz", prompt=np.array([b"hat", "caf\u00e9".encode(), b"hat"]))
    assert open_samples(path, 8).prompts() == ("caf\u00e9", "hat")


def test_pictures_are_cropped_and_resized(tmp_path: Path) -> None:
    images = np.zeros((3, 4, 8, 3), dtype=np.uint8)
    images[:, :, 2:6] = 255
    path = tiny.npz(tmp_path / "x.npz", images=images, prompt=np.array(["a", "b", "c"]))
    assert (open_samples(path, 2).pictures([0]) == 255).all()


def test_bad_pictures_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny.folder_with_captions(tmp_path)
    content = tiny.encode(tiny.picture(5, (64, 64)), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) * 2 // 3])
    (tmp_path / "cut.txt").write_text(HAT)
    (tmp_path / "lonely.png").write_bytes(tiny.png(4))
    (tmp_path / "mute.png").write_bytes(tiny.png(5))
    (tmp_path / "mute.txt").write_text(" \n")
    (tmp_path / "latin.png").write_bytes(tiny.png(6))
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        samples = open_samples(tmp_path, 8, max_bad_share=0.6)
    reasons = dict(samples.quarantined)
    assert len(samples) == 3
    assert list(reasons) == ["cut.jpg", "latin.png", "lonely.png", "mute.png"]
    assert reasons["cut.jpg"].startswith("cannot be decoded: ")
    assert reasons["latin.png"] == "its caption file latin.txt is not UTF-8 text"
    assert reasons["lonely.png"] == "no caption file lonely.txt beside it"
    assert reasons["mute.png"] == "its prompt is empty"
    (record,) = caplog.records
    message = record.getMessage()
    assert "left out 4 of 7 pictures (4 unusable, 0 duplicates): cut.jpg: " in message
    assert "; and 1 more" in message
    assert "\n" not in message


def test_duplicates_are_kept_once_and_are_not_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny.folder_with_captions(tmp_path)
    for name, caption in (("a2.png", HAT), ("other.png", PLAIN)):
        (tmp_path / name).write_bytes(tiny.png(0))
        (tmp_path / name).with_suffix(".txt").write_text(caption)
    samples = open_samples(tmp_path, 8, max_bad_share=0.0)
    # the same picture with another prompt is another sample
    assert len(samples) == 4
    assert samples.quarantined == (("a2.png", "duplicate of a.png"),)
    assert "1 duplicate)" in caplog.text


@pytest.mark.parametrize("limit", [0, 10**9])
def test_pictures_stay_beside_their_prompts_when_rows_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(checking, "IN_MEMORY_BYTES", limit)
    tiny.folder_with_captions(tmp_path)
    (tmp_path / "a.png").write_bytes(b"broken")
    samples = open_samples(tmp_path, 8, max_bad_share=0.5)
    assert samples.prompt == (PLAIN, HAT)
    assert np.array_equal(samples.pictures([0])[0], np.asarray(tiny.picture(1)))
    assert np.array_equal(samples.pictures([1])[0], np.asarray(tiny.picture(2)))


def test_a_sample_id_is_what_the_reference_says():
    inner = hashlib.sha256(b"the picture file").digest()
    expected = hashlib.sha256(inner + "a caf\u00e9".encode()).hexdigest()[:16]
    assert sample_id(b"the picture file", "a caf\u00e9") == expected
