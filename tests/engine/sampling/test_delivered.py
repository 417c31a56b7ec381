"""What a report shows is what its files draw: stock pipelines, other strengths than 1."""

import json

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors import safe_open

import invdiff
from invdiff.app.export import export
from invdiff.engine.sampling import calibrate
from invdiff.engine.storage.files import read_json
from invdiff.model.lora import adapter_file
from tests.tiny_world import table, world

__all__ = ["world"]


@pytest.fixture
def run(world, tmp_path, monkeypatch):
    """A run whose calibration finds that 1.5 is enough, and 1 is not."""

    def estimate(session, prompts, strength):
        own = {prompt: {"shown": 60, "images": 64} for prompt in prompts}
        gap = 0.0 if strength == 1.5 else 0.9
        return {"strength": strength, "gap": gap, "above": -gap, "own_prompt": own}

    monkeypatch.setattr(calibrate, "estimate_gap", estimate)
    strong = ("train.learning_rate=0.1", "calibrate.strengths=[0.0, 1.0, 1.5]")
    run = invdiff.Run(tmp_path / "run", world.config(*strong, "train.steps=8"))
    for stage in ("discover", "train", "sample"):
        run.do(stage)
    return run.path


def reported(run, rows, arm):
    paths = rows["path"][(rows["arm"] == arm) & (rows["scale"] == 2.5)]
    return np.stack([np.asarray(Image.open(run / path)) for path in paths]).astype(int)


def drawn(pipe, rows):
    pipe.set_progress_bar_config(disable=True)
    chosen = (rows["arm"] == "guided") & (rows["scale"] == 2.5)
    pairs = zip(rows["prompt"][chosen], rows["seed"][chosen], strict=True)
    pictures = [
        pipe(
            str(prompt),
            generator=torch.Generator().manual_seed(int(seed)),
            num_inference_steps=2,
            guidance_scale=2.5,
            output_type="np",
        ).images[0]
        for prompt, seed in pairs
    ]
    return (np.stack(pictures) * 255).round().astype(int)


@pytest.mark.parametrize("form", ["adapter", "diffusers", "merged"])
def test_the_files_draw_the_pictures_of_the_report(run, world, tmp_path, form):
    assert read_json(run / "adapter" / "calibration.json")["strength"] == 1.5
    rows = table(run / "samples.parquet")
    guided, base = reported(run, rows, "guided"), reported(run, rows, "base")
    if form == "merged":
        pipe = DiffusionPipeline.from_pretrained(
            export(run, tmp_path / "out", ["merged"]).folder / "merged"
        )
    else:
        folder = run / "adapter"
        if form == "diffusers":
            folder = export(run, tmp_path / "out", ["diffusers"]).folder
        pipe = DiffusionPipeline.from_pretrained(world.model)
        pipe.load_lora_weights(folder)
    assert np.abs(guided - base).mean() > 2, "the adapter changes the pictures"
    assert np.abs(drawn(pipe, rows) - guided).max() <= 1, "rounding"


def test_a_scaled_prediction_is_something_else(run, world):
    """So the test above can fail."""
    rows = table(run / "samples.parquet")
    pipe = DiffusionPipeline.from_pretrained(world.model)
    invdiff.attach(pipe, run / "adapter", scaled="prediction")
    assert np.abs(drawn(pipe, rows) - reported(run, rows, "guided")).max() > 3
    invdiff.detach(pipe)
    invdiff.attach(pipe, run / "adapter")
    assert np.abs(drawn(pipe, rows) - reported(run, rows, "guided")).max() <= 1


def test_the_header_says_what_the_strength_is_of(run):
    with safe_open(run / "adapter" / adapter_file.FILE, "pt") as file:
        told = json.loads(file.metadata()["invdiff"])
    assert (told["strength_scales"], told["recommended_strength"]) == ("weights", 1.5)
