"""Data and weights that were changed in place are told; what was found stays legible."""

import shutil

import pytest
from PIL import Image

import invdiff
from invdiff.app.cli import main
from invdiff.engine.run.folder import RunFolder
from tests.tiny_world import World, save_pipeline, stamps, world

__all__ = ["world"]


@pytest.fixture
def own(world, tmp_path) -> World:
    """A copy of model and data, to be changed."""
    shutil.copytree(world.model, tmp_path / "model")
    shutil.copytree(world.data, tmp_path / "data")
    return World(tmp_path / "model", tmp_path / "data")


@pytest.fixture
def run(own, tmp_path):
    run = invdiff.Run(tmp_path / "run", own.config())
    run.discover()
    return run


def repainted(folder):
    path = sorted(folder.glob("*.png"))[0]
    Image.new("RGB", (16, 16), (0, 99, 0)).save(path)
    return path.name


def recaptioned(folder):
    path = folder / "metadata.csv"
    path.write_text(path.read_text().replace("a-hat-000.png,a hat", "a-hat-000.png,a cap"))
    return "a-hat-000.png"


def added(folder):
    (folder / "new.png").write_bytes((folder / "a-hat-000.png").read_bytes() + b"\0")
    with (folder / "metadata.csv").open("a") as table:
        table.write("new.png,a hat,warm\n")
    return "new.png"


@pytest.mark.parametrize("change", [repainted, recaptioned, added])
def test_changed_data_is_no_longer_answered_with_done_before(run, own, capsys, change):
    name = change(own.data)
    before = stamps(run.path)
    for words in (["discover", "--out"], ["run", "--out"], ["train"], ["train", "--redo"]):
        capsys.readouterr()
        assert main([*words, str(run.path)]) == 1, words
        (told,) = capsys.readouterr().err.splitlines()
        assert name in told
        assert f"`invdiff discover --out {run.path} --redo`" in told
    assert stamps(run.path) == before
    assert invdiff.Run(run.path).groups.prompts, "what was found can be looked at"


def test_what_is_named_as_the_way_out_is_one(run, own):
    repainted(own.data)
    assert main(["discover", "--out", str(run.path), "--redo"]) == 0
    RunFolder.read(run.path).require_inputs()


def test_other_weights_under_the_same_path_are_told(run, own, capsys):
    save_pipeline(own.model, seed=1)
    assert main(["train", str(run.path)]) == 1
    assert f"the model {own.model}" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["label_column", "group_column"])
def test_columns_that_are_used_count(own, tmp_path, capsys, column):
    run = invdiff.Run(tmp_path / "run", own.config(f"data.{column}=colour"))
    run.discover()
    table = own.data / "metadata.csv"
    table.write_text(table.read_text().replace("warm", "red"))
    assert main(["train", str(run.path)]) == 1
    assert {"label_column": "labels", "group_column": "prompt groups"}[column] in (
        capsys.readouterr().err
    )


def test_copies_times_and_files_that_are_no_rows_are_no_change(run, own):
    moved = own.data.with_name("moved")
    own.data.rename(moved)
    assert RunFolder.read(run.path).done("discover")
    RunFolder.read(run.path).require_inputs()  # gone: results are read without it
    shutil.copytree(moved, own.data, copy_function=shutil.copy)
    (own.data / "notes.md").write_text("mine")
    RunFolder.read(run.path).require_inputs()


def test_of_changed_data_nothing_is_thrown_away_and_a_report_has_a_line(
    own, tmp_path, caplog, capsys
):
    few = "train.steps=1", "calibrate.strengths=[1.0]", "sample.images_per_prompt=1"
    run = invdiff.Run(tmp_path / "run", own.config(*few))
    run.run_all()
    assert main(["report", str(run.path), "--redo"]) == 0
    assert not [line for line in caplog.messages if "changed since" in line]
    name, before = repainted(own.data), stamps(run.path)
    for words in (["train"], ["sample"], ["train", "--train.steps", "2"]):
        assert main([words[0], str(run.path), *words[1:], "--redo"]) == 1
        assert stamps(run.path) == before, words
    capsys.readouterr()
    assert main(["augment", str(run.path), "--out", str(tmp_path / "set")]) == 1
    assert name in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
    assert main(["report", str(run.path), "--redo"]) == 0
    (line,) = [line for line in caplog.messages if "changed since" in line]
    assert name in line
    assert (run.path / "report.html").is_file()
