"""What columns mean: names of classes, bytes of any make, any order, spaces after commas."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from invdiff.data.gallery import open_labelled
from invdiff.data.sources import open_samples, read_labels
from invdiff.errors import DataError
from tests.data import tiny_sources as tiny
from tests.data.tiny_sources import HAT, PLAIN


def test_a_space_after_the_comma_keeps_no_quotes(tmp_path: Path) -> None:
    tiny.write_pictures(tmp_path, ["a.png", "b.png"])
    rows = 'file_name, caption\na.png, "a man, smiling"\nb.png, plain\n'
    (tmp_path / "metadata.csv").write_text(rows)
    assert open_samples(tmp_path, 8).prompt == ("a man, smiling", "plain")


def test_names_of_files_with_spaces_or_from_windows(tmp_path: Path) -> None:
    tiny.write_pictures(tmp_path, ["a.png", "deep/b.png", " c.png"])
    rows = 'file_name,caption\na.png ,x\ndeep\\b.png,y\n" c.png",z\n'
    (tmp_path / "metadata.csv").write_text(rows)
    assert open_samples(tmp_path, 8).prompt == ("x", "y", "z")


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_class_numbers_have_their_names(tmp_path: Path, kind: str) -> None:
    features = {
        "label": {"names": ["female", "male"], "_type": "ClassLabel"},
        "tags": {"feature": {"names": [HAT, PLAIN], "_type": "ClassLabel"}, "_type": "List"},
    }
    table = pa.table(
        {
            "image": [tiny.png(number) for number in range(3)],
            "tags": [[0], [1], [0]],
            "label": [1, 0, -1],
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    if kind == "parquet":
        pq.write_table(table, tmp_path / "x.parquet")
    else:
        with pa.ipc.new_stream(str(tmp_path / "data.arrow"), table.schema) as stream:
            stream.write_table(table)
        (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    assert open_samples(tmp_path, 8, "tags").prompt == (HAT, PLAIN, HAT)
    found = open_labelled(tmp_path, "label", 8)
    assert found.labels == ("male", "female")
    assert found.left_out["no label"] == 1


@pytest.mark.parametrize("number", [2, -2])
def test_a_class_number_without_a_name_is_refused(tmp_path: Path, number: int) -> None:
    features = {"label": {"names": ["female", "male"], "_type": "ClassLabel"}}
    table = pa.table(
        {"image": [tiny.png(0), tiny.png(1)], "text": [HAT, HAT], "label": [0, number]}
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=rf"'label'.*class {number} has no name, there are 2"):
        open_labelled(tmp_path, "label", 8)


def test_bytes_and_text_that_are_views(tmp_path: Path) -> None:
    columns = {
        "image": pa.array([tiny.png(number) for number in range(3)], pa.binary_view()),
        "text": pa.array([HAT, PLAIN, HAT], pa.string_view()),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert open_samples(tmp_path, 8).prompt == (HAT, PLAIN, HAT)


def test_shards_may_have_their_columns_in_any_order(tmp_path: Path) -> None:
    tiny.parquet(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table.select(["gender", "text", "image"]), tmp_path / "b.parquet")
    (tmp_path / "c").mkdir()
    samples = open_samples(tmp_path, 8)
    assert len(samples) == 3
    assert len(samples.quarantined) == 3, "the same rows once more"
    assert read_labels(tmp_path, "gender", samples) == ("male", "female", "female")
