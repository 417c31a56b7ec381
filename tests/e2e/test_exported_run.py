"""A run from discovery to the files that other tools read, and back."""

import json

import numpy as np
from safetensors import safe_open

from invdiff.app.cli import main
from invdiff.engine.storage.files import read_json
from invdiff.model.formats import kohya
from invdiff.model.lora import adapter_file
from tests.model import tiny
from tests.model.formats.test_kohya import draw

STRENGTH = ["--strength", "1"]  # a few steps train nothing: calibration may choose 0, the base


def test_a_finished_run_is_exported_and_draws_the_same(finished, tmp_path, capsys):
    out = tmp_path / "out"
    names = ("diffusers", "kohya", "peft", "merged")
    formats = [word for name in names for word in ("--format", name)]
    assert main(["export", str(finished), "--out", str(out), "--verify", *formats, *STRENGTH]) == 0
    assert capsys.readouterr().out.count(": ok, ") == 4
    ours, stock = tiny.pipeline(), tiny.pipeline()
    ours.load_lora_weights(finished / "adapter")
    stock.load_lora_weights(out / kohya.FILE)
    assert np.abs(draw(ours) - draw(stock)).max() < 1e-5
    assert "## Before and after" in (out / "README.md").read_text()


def test_the_trained_header_says_how_to_use_the_adapter(finished, world):
    with safe_open(finished / "adapter" / adapter_file.FILE, framework="pt") as file:
        settings = json.loads(file.metadata()["invdiff"])
    calibration = read_json(finished / "adapter" / "calibration.json")
    scale = settings.pop("weight_scale", 1.0)
    assert scale == (calibration["strength"] or 1.0)
    assert settings == {
        "seed": 0,
        "rank": 2,
        "base_model": str(world.model),
        "recommended_strength": calibration["strength"],
        "window": [0.0, 1.0],
        "strength_scales": "weights",
        "guidance_scale": 2.5,
    }
