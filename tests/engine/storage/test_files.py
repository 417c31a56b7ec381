"""Files are written whole or not at all, and read with a way out."""

import numpy as np
import pytest

from invdiff.engine.storage import files
from invdiff.errors import RunError


def test_json_is_plain(tmp_path):
    value = {"a": np.float32(0.5), "b": [np.nan, np.arange(2)], "c": (tmp_path, None, True), 1: 2}
    path = files.write_json(tmp_path / "sub/a.json", value)
    assert files.read_json(path) == {
        "a": 0.5,
        "b": [None, [0, 1]],
        "c": [str(tmp_path), None, True],
        "1": 2,
    }
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_tables_come_back(tmp_path):
    columns = {"sample_id": ["a", "b"], "weight": np.array([0.5, 2.0])}
    path = files.write_parquet(tmp_path / "t.parquet", columns)
    assert files.read_parquet(path) == {"sample_id": ["a", "b"], "weight": [0.5, 2.0]}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")

    def fail(beside):
        beside.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        files.write_with(path, fail)
    with pytest.raises(TypeError):
        files.write_json(path, object())
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_reader_keeps_the_file_that_it_has_open(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")
    with path.open() as reader:
        files.write_text(path, "new")
        assert reader.read() == "old"


def test_missing_and_damaged_files_name_the_way_out(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "a.parquet").write_text("{")
    for read, name in [(files.read_json, "a.json"), (files.read_parquet, "a.parquet")]:
        with pytest.raises(RunError, match=r"is damaged .*--redo"):
            read(tmp_path / name)
        with pytest.raises(RunError, match=r"is missing: .*--redo"):
            read(tmp_path / f"no-{name}")
