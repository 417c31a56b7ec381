"""Two pipelines measured: drawn from the same seeds, once, and then compared as folders."""

import argparse
import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from invdiff.app.cli import main, two_folders
from invdiff.app.cli.two_folders import is_pipeline
from invdiff.engine.comparison.drawn import Pipeline, Wanted, draw_folder
from invdiff.engine.sampling.sample import SamplingPart
from invdiff.engine.sampling.sampler import seed_of
from invdiff.errors import DataError, ModelError, RunError
from invdiff.model.lora.adapter_file import write_settings
from tests import tiny_world
from tests.tiny_world import copy_of, finished, world

__all__ = ["finished", "world"]
FEW = ["--images-per-prompt", "6", "--steps", "2", "--scale", "2.5", "--resamples", "100"]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text("a hat\n\n  a  coat \na hat\n")
    return path


@pytest.fixture(scope="module")
def measured(world, finished, prompts, tmp_path_factory):
    out = tmp_path_factory.mktemp("measured") / "out"
    words = ["evaluate", str(world.model), str(world.model), "--prompts", str(prompts), *FEW]
    words += ["--adapter", str(finished / "adapter"), "--strength", "50", "--extractor", "pixels"]
    assert main([*words, "--out", str(out)]) == 0
    return out, words


def rows_of(folder):
    with (folder / "metadata.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_both_draw_the_same_seeds_and_are_compared_in_pairs(measured):
    out, _ = measured
    first, second = (rows_of(out / "drawn" / name) for name in ("first", "second"))
    assert first == second
    assert {row["caption"] for row in first} == {"a hat", "a coat"}
    assert [int(r["seed"]) for r in first if r["caption"] == "a hat"] == [
        seed_of(0, "a hat", k) for k in range(6)
    ]
    record = json.loads((out / "metrics.json").read_text())
    assert record["paired"]
    assert [record["sets"][of]["images"] for of in "ab"] == [12, 12]
    assert (out / "report.html").is_file()


def test_the_adapter_is_on_the_second_alone(measured, world):
    out, _ = measured
    wanted = Wanted(("a hat",), 1, 2.5, 2, 0)
    alone = draw_folder(Pipeline(str(world.model)), wanted, out.parent / "alone", processes=1)
    (row,) = rows_of(alone)
    plain, one, other = (
        np.asarray(Image.open(folder / row["file_name"])).astype(int)
        for folder in (alone, out / "drawn" / "first", out / "drawn" / "second")
    )
    assert abs(plain - one).max() <= 1
    assert abs(plain - other).max() > 1


def test_prompts_that_are_cut_and_steps_that_are_too_few_are_told(world, tmp_path, caplog):
    model, long = Pipeline(str(world.model)), "c" * 40
    draw_folder(model, Wanted(("a hat", long), 1, 1.0, 2, 0), tmp_path / "drawn", processes=1)
    told = f"1 of 2 prompts of {world.model} are longer than the 16 tokens"
    assert told in caplog.text
    with pytest.raises(ModelError, match="takes no 5000 steps: set the number of steps"):
        draw_folder(model, Wanted(("a hat",), 1, 1.0, 5000, 0), tmp_path / "more", processes=1)
    assert not (tmp_path / "more").exists()


def test_a_second_call_draws_nothing(measured, monkeypatch):
    out, words = measured
    before = tiny_world.contents(out / "drawn", "*.png")
    (out / "drawn" / "first" / rows_of(out / "drawn" / "first")[0]["file_name"]).unlink()
    asked = []
    missing = SamplingPart.missing
    monkeypatch.setattr(
        SamplingPart,
        "missing",
        lambda self, batch: asked.append(found := missing(self, batch)) or found,
    )
    assert main([*words, "--out", str(out)]) == 0
    assert [len(indices) for shards in asked for _, indices in shards] == [1]
    assert tiny_world.contents(out / "drawn", "*.png").keys() == before.keys()


def test_other_settings_need_another_folder(measured, world):
    out, _ = measured
    with pytest.raises(RunError, match="another pipeline or with other settings"):
        draw_folder(
            Pipeline(str(world.model)), Wanted(("a hat",), 1, 1.0, 2, 0), out / "drawn/first"
        )


def test_an_adapter_that_was_trained_again_needs_another_folder(finished, world, tmp_path):
    adapter, wanted = tmp_path / "adapter", Wanted(("a hat",), 1, 1.0, 2, 0)
    shutil.copytree(finished / "adapter", adapter)
    draw_folder(Pipeline(str(world.model), adapter), wanted, tmp_path / "drawn", processes=1)
    adapter_file = adapter / "pytorch_lora_weights.safetensors"
    whole = bytearray(adapter_file.read_bytes())
    whole[-1] ^= 1
    adapter_file.write_bytes(whole)
    with pytest.raises(RunError, match="another pipeline"):
        draw_folder(Pipeline(str(world.model), adapter), wanted, tmp_path / "drawn", processes=1)


def test_what_is_a_pipeline(world, tmp_path, monkeypatch):
    assert is_pipeline(str(world.model))
    assert is_pipeline("faces")
    assert not is_pipeline(str(world.data))
    (tmp_path / "faces").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"builtin:faces for the set, \./faces for the folder"):
        is_pipeline("faces")
    assert not is_pipeline("./faces"), "a folder of pictures with that name"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["faces", "faces"], "--prompts FILE is needed"),
        (["a", "b", "--steps", "3"], "--steps: for pipelines, and neither of both is one"),
        (
            ["faces", "faces", "--prompts", "x", "--scale", "0.5"],
            "--scale: must be a number of at least 1",
        ),
        (["faces", "b", "--prompts", "x", "--adapter", "y"], "--adapter is for a pipeline, and b"),
        (
            ["faces", "faces", "--prompts", "x", "--strength", "2"],
            "--strength is that of",
        ),
        (["a", "b", "--classifier", "clip:m"], "clip needs texts of at least 2 classes"),
        (["a", "b", "--classifier", "faces", "--classes", "a = b"], "only clip, siglip and model"),
        (["a", "b", "--classifier", "clip:m", "--classes", "woman"], "must be lines like"),
    ],
)
def test_words_that_do_not_fit(words, told, tmp_path, capsys):
    assert main(["evaluate", *words, "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err


def test_a_file_without_prompts(world, tmp_path, capsys):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    words = ["evaluate", str(world.model), str(world.model), "--out", str(tmp_path / "out")]
    assert main([*words, "--prompts", str(empty)]) == 1
    assert "has no prompts: give one a line" in capsys.readouterr().err
    assert main([*words, "--prompts", str(tmp_path / "none.txt")]) == 1
    assert "cannot be read as a text file of prompts" in capsys.readouterr().err


def test_an_adapter_is_measured_at_the_strength_that_was_calibrated(
    world, finished, prompts, tmp_path, monkeypatch
):
    asked = {}

    def noted(pipeline, wanted, folder, processes=0):
        asked[pipeline.adapter] = pipeline.strength
        return folder

    monkeypatch.setattr("invdiff.engine.comparison.drawn.draw_folder", noted)
    adapter = copy_of(finished, tmp_path / "run") / "adapter"
    write_settings(adapter, recommended_strength=1.5)
    unsaid = ("images_per_prompt", "scale", "steps", "seed_of_pictures", "strength")
    words = argparse.Namespace(**dict.fromkeys(unsaid), out=tmp_path / "out")
    words.folders, words.prompts, words.adapter = [str(world.model)] * 2, prompts, adapter
    two_folders.drawn(words)
    assert asked[adapter] == 1.5
    words.strength = 0.5
    two_folders.drawn(words)
    assert asked[adapter] == 0.5
