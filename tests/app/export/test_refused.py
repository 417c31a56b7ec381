"""What cannot be exported or uploaded, in one line each."""

import shutil

import huggingface_hub
import pytest
import torch

from invdiff.app.cli import main
from invdiff.app.export import export
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import ConfigError, ModelError, RunError
from invdiff.model.formats import kohya
from tests.app.export.exported import LORAS, PEFT, names
from tests.model import tiny


def test_a_bare_adapter_needs_the_name_of_its_base(bare, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(bare), "--out", str(out)]) == 1
    assert "name it with --model" in capsys.readouterr().err
    assert main(["export", str(bare), "--out", str(out), "--model", str(model), "--verify"]) == 0
    assert names(out) == LORAS | {"README.md", "verification.json", PEFT}
    assert "exported without its run folder" in (out / "README.md").read_text()


def test_a_pipeline_that_was_passed_is_left_as_it_was(bare, tmp_path):
    pipe = tiny.pipeline()
    before = {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    export(bare, tmp_path / "out", ["merged", "kohya"], pipeline=pipe, verify=True)
    after = pipe.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_file_that_does_not_pass_is_not_exported(bare, tmp_path, monkeypatch):
    """Without the check the folder would be there, and its strength half of what it says."""
    right = kohya.convert

    def halved(*asked):
        return {k: v / 2 if k.endswith(".alpha") else v for k, v in right(*asked).items()}

    monkeypatch.setattr(kohya, "convert", halved)
    with pytest.raises(RunError, match=r"invdiff_kohya.safetensors: WRONG.*nothing was exported"):
        export(bare, tmp_path / "out", pipeline=tiny.pipeline(), verify=True)
    assert names(tmp_path) == {"adapter"}


def test_what_cannot_be_exported_is_refused(run, bare, tmp_path):
    out, pipe = tmp_path / "out", tiny.pipeline()
    with pytest.raises(ConfigError, match="there are: diffusers, kohya, peft, merged"):
        export(bare, out, ["gguf"], pipeline=pipe)
    with pytest.raises(RunError, match="neither a run folder nor a folder with"):
        export(tmp_path, out, pipeline=pipe)
    entry = ["diffusers", "SD3Transformer2DModel"]
    index = {"_class_name": "StableDiffusion3Pipeline", "transformer": entry}
    write_json(tmp_path / "sd3" / "model_index.json", index)
    with pytest.raises(ModelError, match="--format diffusers"):
        export(bare, out, ["kohya"], model=str(tmp_path / "sd3"))
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="is not empty"):
        export(bare, out, pipeline=tiny.pipeline())
    assert names(out) == {"mine.txt"}


def test_a_run_that_found_nothing_has_nothing_to_export(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    record = read_json(tmp_path / "run" / "training.json")
    write_json(tmp_path / "run" / "training.json", record | {"skipped": True})
    with pytest.raises(RunError, match="found nothing to balance"):
        export(tmp_path / "run", tmp_path / "out")


def test_a_run_that_was_not_trained_is_told_what_to_do(tmp_path):
    run = RunFolder.open(tmp_path / "run")
    with pytest.raises(RunError, match="run `invdiff discover"):
        export(run.path, tmp_path / "out")


def test_a_dry_run_of_the_upload_lists_the_files_and_sends_none(run, tmp_path, capsys, monkeypatch):

    def no_client():
        raise AssertionError("a dry run must not open a client")

    monkeypatch.setattr(huggingface_hub, "HfApi", no_client)
    out = tmp_path / "out"
    words = ["export", str(run), "--out", str(out), "--push", "me/balanced", "--dry-run"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "would upload to the public model repository me/balanced:" in text
    for path in out.iterdir():
        assert f"{path.stat().st_size:,} bytes  {path.name}" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dry-run"], "belong to --push"),
        (["--private"], "belong to --push"),
        (["--push", "nobody"], "give OWNER/NAME"),
        (["--strength", "-1"], "at least 0, but is '-1'"),
        (["--format", "gguf"], "invalid choice: 'gguf'"),
        (["--train.steps", "3"], "export takes no settings"),
    ],
)
def test_mistakes_on_the_line(run, tmp_path, capsys, words, told):
    assert main(["export", str(run), "--out", str(tmp_path / "out"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
