"""`invdiff data prepare`, as typed."""

import os
from dataclasses import replace

import pytest

from invdiff.app.cli import main
from invdiff.engine.storage.files import read_json, read_parquet
from invdiff.studies.official_sets import BENCHMARKS
from tests.data.tiny_archives import make


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small FairFace that passes for the published one."""
    tiny = make("fairface", tmp_path / "archive")
    small = replace(BENCHMARKS["fairface"], published=tiny.published)
    monkeypatch.setitem(BENCHMARKS, "fairface", small)
    monkeypatch.chdir(tmp_path)
    return tiny.folder


WORDS = ["data", "prepare", "fairface", "--from", "archive", "--out", "faces"]


def test_groups_and_checks_are_told(archive, capsys):
    assert main([*WORDS, "--ratio", "3:2:1:1:1:1:2:3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["group", "train", "validation"]
    assert lines[1].split() == ["male,", "WMELH", "3", "2"]
    assert lines[8].split() == ["female,", "Black", "3", "1"]
    assert lines[9].split() == ["all", "14", "7"]
    assert "checked: 49 pictures: all there and readable" in lines
    command = "invdiff run --preset fairface --data.path faces/train --out runs/fairface"
    assert lines[-1] == f"train on it: {command}"


def test_a_relative_folder_is_linked_from_anywhere(archive):
    assert main(WORDS) == 0
    split = archive.parent / "faces" / "train"
    files = read_parquet(split / "metadata.parquet")["file_name"]
    assert len(files) == 42
    assert all((split / file).is_file() for file in files)


def test_the_seed_chooses_the_pictures(archive):
    for seed in ("0", "1"):
        words = [*WORDS[:-1], f"faces{seed}", "--ratio", "1:1:1:1:1:1:1:1", "--ratio-seed", seed]
        assert main(words) == 0
        assert read_json(archive.parent / f"faces{seed}" / "preparation.json")["seed"] == int(seed)
    first, second = (
        (archive.parent / f"faces{seed}" / "train" / "metadata.parquet").read_bytes()
        for seed in ("0", "1")
    )
    assert first != second


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--ratio", "1:2"], 2, "--ratio 1:2: has 2 parts, there are 8 groups"),
        (["--ratio-seed", "x"], 2, "--ratio-seed: invalid int value: 'x'"),
        (["--train.steps", "3"], 2, "data takes no settings"),
        (["--seed", "3"], 2, "data takes no settings"),
        (["--ratios", "1"], 2, "--ratios: no such option"),
        (["--from", "nowhere"], 1, "nowhere is no folder; give --from the folder"),
        (["--from", "archive/train"], 1, "archive/train has no fairface_label_train.csv"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(more, code, said, archive, capsys):
    assert main([*WORDS, *more]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("invdiff: error: ")
    assert said in line
    assert os.listdir(archive.parent) == ["archive"]
