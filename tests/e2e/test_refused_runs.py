"""What is wrong is said in one line, and nothing is lost."""

import csv
import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import SafetensorError

from invdiff.app.cli import main
from invdiff.engine.storage import checkpoint, hashed_tensors
from invdiff.engine.storage.files import read_json
from tests import tiny_world
from tests.tiny_world import contents, copy_of, stamps


def told(capfd):
    """What the command line said on stderr, progress bars aside."""
    lines = capfd.readouterr().err.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and not re.search(r"%\|.*\|", line)]


def refused(words, capfd, code):
    """The one line that a command ends with."""
    assert main([str(word) for word in words]) == code
    (line,) = told(capfd)
    assert line.startswith("invdiff: error: ")
    return line.removeprefix("invdiff: error: ")


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--model.path=./no-such-model"], 1, "model.path ./no-such-model is no folder"),
        (["--data.path=./no-such-data"], 1, "no-such-data does not exist"),
        (["--train.stepz=5"], 2, "--train.stepz: no such setting; did you mean --train.steps?"),
        (["--data.prompt_column=nope"], 1, "nope"),
        (["--data.min_images=500"], 1, "no prompt has 500 images (data.min_images)"),
        (
            ["--discover.estimator=labels", "--data.label_column=weight"],
            1,
            "weight",
        ),
    ],
)
def test_what_cannot_be_is_told(command, capfd, words, code, expected):
    assert expected in refused([*command, *words], capfd, code)


def test_a_folder_that_is_no_pipeline(command, world, capfd):
    line = refused([*command, f"--model.path={world.data}"], capfd, 1)
    assert "model_index.json" in line
    assert "a folder in diffusers format" in line


def test_pictures_without_captions(command, tmp_path, capfd):
    (tmp_path / "bare").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "bare" / "one.png")
    line = refused([*command, f"--data.path={tmp_path / 'bare'}"], capfd, 1)
    assert "metadata" in line


@pytest.fixture
def own_data(world, tmp_path):
    return shutil.copytree(world.data, tmp_path / "own")


def edit(data, change):
    with (data / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        change(number, row)
    tiny_world.write_metadata(data, rows)


def test_empty_prompts(command, own_data, capfd):
    edit(own_data, lambda number, row: row.update(caption=""))
    line = refused([*command, f"--data.path={own_data}"], capfd, 1)
    assert "every caption" in line
    assert "is empty" in line


def test_a_truncated_picture_is_left_out_and_listed(command, own_data, tmp_path, caplog):
    path = own_data / "a-hat-000.png"
    path.write_bytes(path.read_bytes()[:200])
    words = ["discover", *command[1:], f"--data.path={own_data}"]
    assert main(words) == 0
    (line,) = caplog.messages  # which logging puts on stderr
    assert "left out 1 of 90 pictures" in line
    ((where, why),) = read_json(tmp_path / "run" / "quarantine.json")
    assert "a-hat-000.png" in where
    assert why
    assert len(tiny_world.table(tmp_path / "run" / "groups.parquet")["group"]) == 89


def test_many_truncated_pictures(command, own_data, tmp_path, capfd):
    for path in sorted(own_data.glob("a-hat-*.png"))[:10]:
        path.write_bytes(path.read_bytes()[:200])
    line = refused([*command, f"--data.path={own_data}"], capfd, 1)
    assert "10 of 90 pictures" in line
    assert "data.max_bad_share" in line


def test_a_run_of_other_settings(command, finished, tmp_path, capfd):
    copy_of(finished, tmp_path / "run")
    before = stamps(tmp_path / "run")
    line = refused([*command, "--discover.draws=3", "--train.rank=1"], capfd, 1)
    for part in ("discover.draws (2 -> 3)", "train.rank (2 -> 1)", "--redo", "--out"):
        assert part in line
    assert stamps(tmp_path / "run") == before


def test_a_folder_that_is_no_run(command, tmp_path, capfd):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("do not touch")
    assert "is not empty and is not a run folder" in refused(command, capfd, 1)
    assert contents(tmp_path / "run") == {"thesis.txt": b"do not touch"}


def test_a_place_that_may_not_be_written_to(command, tmp_path, capfd, monkeypatch):
    if os.geteuid() == 0:  # to root every place is open: let the system call refuse
        monkeypatch.setattr(Path, "mkdir", forbidden)
    else:
        tmp_path.chmod(0o500)
    line = refused(command, capfd, 1)
    assert "Permission denied" in line
    assert "another place" in line
    tmp_path.chmod(0o700)


def forbidden(path, *_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_a_full_disk_while_sampling(command, finished, tmp_path, capfd, monkeypatch):
    """The pictures of before stay; with room again the same command finishes."""
    run = copy_of(finished, tmp_path / "run", "sample")
    made = []
    original = Image.Image.save

    def save(self, target, *rest, **more):
        if len(made) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        made.append(target)
        return original(self, target, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save)
        line = refused(command, capfd, 1)
    assert "the disk is full" in line
    assert "run the same command again" in line
    left = contents(run / "samples")
    assert len(left) == 5
    assert main(command) == 0
    assert contents(run / "samples") == contents(finished / "samples")
    assert (run / "report.html").is_file()


@pytest.mark.parametrize("module", [hashed_tensors, checkpoint])
def test_a_full_disk_as_safetensors_tells_it(command, tmp_path, capfd, monkeypatch, module):
    """Its exception is no OSError."""

    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", full)
        assert "the disk is full" in refused(command, capfd, 1)
    assert main(command) == 0
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_model_that_gives_nan(command, world, tmp_path, capfd):
    """As an fp16 autoencoder does: stopped at the first shard, with a way out."""
    broken = shutil.copytree(world.model, tmp_path / "broken")
    path = broken / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = tiny_world.tensors(path)
    name = next(name for name in tensors if name.startswith("encoder.conv_in"))
    tensors[name] = tensors[name] * np.nan
    tiny_world.save_tensors(path, tensors)
    line = refused([*command, f"--model.path={broken}"], capfd, 1)
    assert "latents of pictures are not finite numbers" in line
    assert not list((tmp_path / "run" / "cache").rglob("*.safetensors"))
