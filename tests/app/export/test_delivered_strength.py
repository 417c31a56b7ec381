"""The strength in exported files: at weight 1 they draw what was calibrated or reported."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from peft import PeftModel

import invdiff
from invdiff.app.export import export
from invdiff.engine.storage.files import read_json, write_json
from invdiff.engine.storage.seals import Seals
from invdiff.errors import RunError
from invdiff.model.formats import kohya
from invdiff.model.guidance.hook import guidance_of
from invdiff.model.lora import adapter, adapter_file
from tests.app.export.exported import header, names
from tests.model import tiny
from tests.model.formats.test_kohya import draw


@pytest.fixture
def calibrated(run, model, tmp_path):
    """The run with an adapter of small weights, as training makes them, and 1.5 calibrated."""
    shutil.copytree(run, tmp_path / "run")
    unet = tiny.pipeline().unet
    adapter.add_lora(unet, 4, seed=0)
    tiny.move(unet)
    for name, weight in adapter.named_parameters(unet):
        weight.data *= 0.2 if "lora_B" in name else 1
    settings = {"base_model": str(model), "strength_scales": "weights"}
    adapter_file.save(unet, tmp_path / "run" / "adapter", settings)
    told = {"recommended_strength": 1.5, "window": [0.0, 1.0]}
    adapter_file.write_settings(tmp_path / "run" / "adapter", **told)
    calibration_says(tmp_path / "run", 1.5)
    return tmp_path / "run"


def calibration_says(run, strength):
    path = run / "adapter" / "calibration.json"
    write_json(path, read_json(path) | {"strength": strength})


def test_every_file_draws_at_weight_one_what_was_calibrated(calibrated, tmp_path):
    """Files that gave strength 1 where 1.5 was reported left most of the gap where it was."""
    base, once, reported = tiny.pipeline(), tiny.pipeline(), tiny.pipeline()
    invdiff.attach(once, calibrated / "adapter", strength=1.0)
    invdiff.attach(reported, calibrated / "adapter")
    reported, uncalibrated, before = draw(reported), draw(once), draw(base)
    effect = np.abs(reported - before).mean()
    out = tmp_path / "out"
    export(calibrated, out, ["diffusers", "kohya", "peft", "merged"])
    drawn = {}
    for folder, name in (
        (calibrated / "adapter", adapter_file.FILE),
        (out, adapter_file.FILE),
        (out, kohya.FILE),
    ):
        pipe = tiny.pipeline()
        pipe.load_lora_weights(folder, weight_name=name)
        drawn[folder / name] = draw(pipe)
    pipe = tiny.pipeline()
    PeftModel.from_pretrained(pipe.unet, out)
    drawn["peft"] = draw(pipe)
    drawn["merged"] = draw(DiffusionPipeline.from_pretrained(out / "merged"))
    for name, pictures in drawn.items():
        assert np.abs(pictures - reported).max() < 1e-4, name
    assert np.abs(uncalibrated - reported).mean() / effect > 0.3
    for folder in (calibrated / "adapter", out):  # InvDiff takes the scale out again: exact
        pipe = tiny.pipeline()
        invdiff.attach(pipe, folder)
        assert np.abs(draw(pipe) - reported).max() < 1e-4
        invdiff.detach(pipe)
        invdiff.attach(pipe, folder, strength=1.0)
        assert np.abs(draw(pipe) - uncalibrated).max() < 1e-4


def test_of_an_adapter_of_before_the_file_is_told_to_approximate(calibrated, tmp_path):
    """Its report scaled the prediction, and weight 1 of its files only comes near that."""
    lora = adapter_file.read(calibrated / "adapter")
    del lora.settings["strength_scales"]
    adapter_file._write(lora.at(1.5), calibrated / "adapter")
    export(calibrated, tmp_path / "out", verify=True)
    assert "only approximates: pictures differ by" in (tmp_path / "out" / "README.md").read_text()
    checks = read_json(tmp_path / "out" / "verification.json")
    assert all(check["ok"] and 0 < check["approximation"] < 0.5 for check in checks)


def test_the_strength_is_told_and_another_one_can_be_asked_for(calibrated, tmp_path):
    export(calibrated, tmp_path / "out", verify=True)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "**Adapter strength 1.5 is in the files: load them at weight 1**" in text
    assert "Any loader draws what the figures below were measured on." in text
    checks = read_json(tmp_path / "out" / "verification.json")
    assert all(check["ok"] and check["approximation"] == 0 for check in checks)
    again = export(tmp_path / "out", tmp_path / "again", model=str(calibrated), strength=0.75,
                   pipeline=tiny.pipeline())  # fmt: skip
    one = adapter_file.read(calibrated / "adapter").weights
    other = adapter_file.read(again.folder).weights
    assert all(torch.allclose(other[key], one[key], rtol=1e-5) for key in one)
    told = json.loads(header(again.folder / adapter_file.FILE)["invdiff"])
    assert (told["recommended_strength"], told["weight_scale"]) == (0.75, 0.75)


def test_a_run_that_sampled_at_another_strength_delivers_that_one(calibrated, tmp_path):
    """What its report shows, whatever calibration said."""
    settings = (calibrated / "config.toml").read_text()
    assert settings.count('strength = "auto"') == 1
    settings = settings.replace('strength = "auto"', "strength = 0.5")
    Seals(calibrated).write_settings(settings.rpartition("# ")[0])
    export(calibrated, tmp_path / "out")
    told = json.loads(header(tmp_path / "out" / kohya.FILE)["invdiff"])
    assert (told["recommended_strength"], told["weight_scale"]) == (0.5, 0.5)
    export(calibrated, tmp_path / "other", strength=2.0)
    text = (tmp_path / "other" / "README.md").read_text()
    assert "**Adapter strength 2 is in the files" in text
    assert "The figures below were measured at adapter strength 0.5." in text


def test_strength_zero_is_nothing_to_export(calibrated, tmp_path):
    with pytest.raises(RunError, match="adapter strength 0 is the base model"):
        export(calibrated, tmp_path / "out", strength=0.0)
    calibration_says(calibrated, 0.0)
    with pytest.raises(RunError, match="give --strength"):
        export(calibrated, tmp_path / "out")
    assert names(tmp_path) == {"run"}


def test_the_window_of_the_run_is_kept_where_nothing_is_said(calibrated):
    adapter_file.write_settings(calibrated / "adapter", window=[0.5, 1.0])
    pipe = tiny.pipeline()
    invdiff.attach(pipe, calibrated / "adapter")
    assert guidance_of(pipe.unet).window == (0.5, 1.0)
