"""read_labels is the only way to attributes, and it aligns them by sample id."""

from pathlib import Path

import numpy as np
import pytest

from invdiff.data.readers.listing import SourceTable
from invdiff.data.sets.drawn import faces
from invdiff.data.sources import open_samples, read_labels
from invdiff.errors import DataError
from tests.data import tiny_sources as tiny

GENDERS = ("male", "female", "female")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_metadata_column(tmp_path: Path, suffix: str) -> None:
    tiny.folder_with_metadata(tmp_path, suffix)
    assert read_labels(tmp_path, "gender", open_samples(tmp_path, 8)) == GENDERS


def test_npz_and_parquet_columns(tmp_path: Path) -> None:
    for path in (tiny.npz(tmp_path / "x.npz"), tiny.parquet(tmp_path / "x.parquet")):
        assert read_labels(path, "gender", open_samples(path, 8)) == GENDERS


def test_numbers_become_text(tmp_path: Path) -> None:
    path = tiny.npz(tmp_path / "x.npz", gender=np.array([1, 0, 0]))
    assert read_labels(path, "gender", open_samples(path, 8)) == ("1", "0", "0")


def test_labels_follow_their_pictures_through_renaming_and_reordering(tmp_path: Path) -> None:
    samples = open_samples(tiny.folder_with_metadata(tmp_path / "one"), 8)
    two = tmp_path / "two"
    tiny.write_pictures(two, ["x0.png", "x1.png", "x2.png"])
    rows = [
        {**tiny.ROWS[number], "file_name": f"x{number}.png", "more": [1]} for number in (2, 1, 0)
    ]
    tiny.write_rows(two / "metadata.jsonl", rows)
    assert read_labels(two, "gender", samples) == GENDERS


def test_labels_of_what_was_left_out_are_not_needed(tmp_path: Path) -> None:
    tiny.folder_with_metadata(tmp_path)
    (tmp_path / "a.png").write_bytes(b"broken")
    (tmp_path / "b.png").unlink()
    samples = open_samples(tmp_path, 8, max_bad_share=0.9)
    assert read_labels(tmp_path, "gender", samples) == ("female",)


def test_opening_samples_reads_the_prompt_column_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    really_read = SourceTable.read

    def record(table: SourceTable, column: str) -> list[object]:
        asked.append(column)
        return really_read(table, column)

    monkeypatch.setattr(SourceTable, "read", record)
    open_samples(tiny.npz(tmp_path / "x.npz"), 8)
    open_samples(tiny.parquet(tmp_path / "x.parquet"), 8)
    open_samples(tiny.folder_with_metadata(tmp_path / "folder"), 8)
    assert sorted(set(asked)) == ["caption", "file_name", "prompt", "text"]


def test_permuted_attributes_give_the_same_samples(tmp_path: Path) -> None:
    straight = open_samples(tiny.npz(tmp_path / "x.npz"), 8)
    swapped = open_samples(
        tiny.npz(tmp_path / "y.npz", gender=np.array(["female", "male", "male"])), 8
    )
    assert straight.sample_id == swapped.sample_id
    assert straight.prompt == swapped.prompt


def test_embedded_attributes() -> None:
    samples = open_samples("faces", 32)
    drawn = faces.attributes("train")
    assert read_labels("faces", "", samples) == drawn["gender"]
    assert read_labels("faces", "race", samples) == drawn["race"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("", "no label column was named; set data.label_column to a column"),
        ("Gendr", "no column 'Gendr'; did you mean 'gender'?"),
        ("file", "has no column 'file'; did you mean 'file_name'? It has: file_name, caption"),
    ],
)
def test_unknown_columns(tmp_path: Path, column: str, message: str) -> None:
    samples = open_samples(tiny.folder_with_metadata(tmp_path), 8)
    with pytest.raises(DataError) as caught:
        read_labels(tmp_path, column, samples)
    assert message in str(caught.value)


def test_unknown_embedded_attribute() -> None:
    with pytest.raises(DataError, match="faces has no column 'hairs'; did you mean 'hair'"):
        read_labels("faces", "hairs", open_samples("faces", 32))


def test_a_sample_without_a_row(tmp_path: Path) -> None:
    samples = open_samples(tiny.folder_with_metadata(tmp_path), 8)
    (tmp_path / "b.png").write_bytes(tiny.png(6))
    with pytest.raises(DataError, match=r"1 of 3 samples have no row in .* open them again"):
        read_labels(tmp_path, "gender", samples)


def test_a_sample_without_a_value(tmp_path: Path) -> None:
    tiny.write_pictures(tmp_path, ["a.png", "b.png"])
    rows = [
        {"file_name": "a.png", "text": "x", "gender": "male"},
        {"file_name": "b.png", "text": "x", "gender": None},
    ]
    tiny.write_rows(tmp_path / "metadata.jsonl", rows)
    samples = open_samples(tmp_path, 8)
    with pytest.raises(DataError, match="1 of 2 pictures have no value in column 'gender'"):
        read_labels(tmp_path, "gender", samples)


def test_caption_files_hold_no_labels(tmp_path: Path) -> None:
    samples = open_samples(tiny.folder_with_captions(tmp_path), 8)
    with pytest.raises(DataError, match="has no column 'gender'; It has: caption"):
        read_labels(tmp_path, "gender", samples)


def test_one_picture_with_two_labels_is_told(tmp_path: Path) -> None:
    """One of them must be wrong; that one of the two has no value is no contradiction."""
    for name, number in (("a.png", 0), ("b.png", 1), ("again.png", 0)):
        (tmp_path / name).write_bytes(tiny.png(number))

    def write(*labels: str) -> None:
        names = zip(("a.png", "b.png", "again.png"), labels, strict=True)
        rows = [{"file_name": name, "caption": "p", "g": one, "set": "x"} for name, one in names]
        tiny.write_rows(tmp_path / "metadata.csv", rows)

    write("male", "female", "female")
    samples = open_samples(tmp_path, 8)
    with pytest.raises(DataError, match=r"again.png is in .* twice, as 'male' and as 'female'"):
        read_labels(tmp_path, "g", samples)
    for labels in (("male", "female", ""), ("", "female", "male")):
        write(*labels)
        assert read_labels(tmp_path, "g", samples) == ("male", "female")
