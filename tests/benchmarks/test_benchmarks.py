"""The benchmarks run, keep what they found and say what it is; no time is asserted."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import clock, job, recipes, shapes, together, training
from invdiff.engine.settings import config as configuration


def test_sides_take_turns_and_warm_rounds_do_not_count():
    calls = []
    sides = {name: lambda name=name: calls.append(name) for name in "abc"}
    timings = clock.interleaved(sides, repeats=3, warm=1)
    assert "".join(calls) == "abc" + "bca" + "cab" + "abc"
    assert {timing.repeats for timing in timings.values()} == {3}
    assert all(t.low <= t.median <= t.high for t in timings.values())


def held(count):
    return float(np.ones(count).sum())


def test_a_peak_is_that_of_the_process_of_its_own():
    large = np.ones(40_000_000)  # 320 MB here must not count there
    result, small_peak = clock.alone(held, 10)
    _, large_peak = clock.alone(held, 30_000_000)
    assert result == 10
    assert large_peak - small_peak == pytest.approx(8 * 30_000_000, rel=0.1)
    assert small_peak < clock.peak_bytes() - large.nbytes / 2


@pytest.fixture
def parts(monkeypatch):
    done = []

    def one(quick):
        """One part."""
        done.append("one")
        timing = {"median": 2.0, "low": 1.0, "high": 3.0, "repeats": 5}
        return {"sides": {"a": {"seconds": timing}}, "b / a": 1.5}

    def two(quick):
        """Another part."""
        done.append("two")
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "PARTS", {"one": one, "two": two})
    return done


def test_an_interrupted_run_keeps_what_it_measured(parts, tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            command.main(["--out", str(tmp_path)])
    assert parts == ["one", "two", "two"]
    command.main(["--out", str(tmp_path), "--only", "one", "--redo"])
    assert parts[-1] == "one"
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["parts"]["one"]["found"]["b / a"] == 1.5
    page = (tmp_path / "RESULTS.md").read_text()
    assert "a, seconds: 2 (1 to 3, 5 repeats)" in page
    assert "b / a: **1.5**" in page
    assert "mean nothing" not in page
    assert found["environment"]["versions"]["torch"]


def test_a_quick_run_says_so_and_does_not_stand_for_a_full_one(parts, tmp_path):
    command.main(["--out", str(tmp_path), "--only", "one", "--quick"])
    assert "mean nothing" in (tmp_path / "RESULTS.md").read_text()
    command.main(["--out", str(tmp_path), "--only", "one"])
    assert parts == ["one", "one"]
    assert "mean nothing" not in (tmp_path / "RESULTS.md").read_text()


def tiny_unet():
    from tests.model import tiny

    return tiny.unet()


@pytest.mark.parametrize("side", ["theirs", "plain lora", "ours"])
def test_each_recipe_trains_what_it_says_and_nothing_else(side):
    from diffusers import DDPMScheduler

    torch.manual_seed(0)
    unet, scheduler = tiny_unet(), DDPMScheduler()
    config = unet.config
    width = config.cross_attention_dim
    latents = torch.randn(4, config.in_channels, 8, 8)
    before = {name: tensor.clone() for name, tensor in unet.named_parameters()}
    if side == "ours":
        bare = shapes.WithoutEncoders(unet, scheduler)
        step = recipes.Ours(bare, latents, ["one", "other"] * 2, batch=1)
    else:
        recipe = (recipes.Theirs if side == "theirs" else recipes.PlainLora)(unet, scheduler)
        step = partial(recipe, latents, torch.randn(4, 5, width))
    losses = [step() for _ in range(3)]
    assert np.isfinite(losses).all()
    now = {name.replace(".base_layer", ""): tensor for name, tensor in unet.named_parameters()}
    assert all(torch.equal(now[name], tensor) for name, tensor in before.items())
    if side == "theirs":
        moved = [not torch.equal(p, before[name]) for name, p in recipe.copy.named_parameters()]
        assert np.mean(moved) > 0.9
    else:
        assert any("lora_B" in name and bool(t.abs().max() > 0) for name, t in now.items())


def test_a_round_is_shared_by_its_steps():
    calls = []
    rounds = training.Rounds(lambda: calls.append(0), 4)
    timing = clock.interleaved({"": rounds}, repeats=2)[""]
    assert len(calls) == 3 * 4
    shared = timing.shared(4)
    assert shared.median == timing.median / 4
    assert shared.repeats == 2


def test_the_whole_job_is_counted_from_the_settings():
    found = job.whole_job(quick=True)
    assert found["sides"]["theirs, forward passes an image"] == 10_000 * 64 * 4 / 8000
    assert found["theirs / lean"] > found["theirs / default"] > 1
    usual = job.passes_of(configuration.preset("faces"))
    back = ["train.share_feedback=[0.5]"]
    low = job.passes_of(configuration.preset("faces", [*back, "train.share_feedback_scales=[1.0]"]))
    high = job.passes_of(
        configuration.preset("faces", [*back, "train.share_feedback_scales=[2.5]"])
    )
    assert (
        job.passes_of(configuration.preset("faces", ["train.share_feedback=[]"]))["looking back"]
        == 0
    )
    assert 0 < low["looking back"] < high["looking back"]  # one condition a step instead of two
    alone = job.passes_of(configuration.preset("faces", ["calibrate.strengths=[1.0]"]))
    assert alone["calibration"] == 0 < usual["calibration"]
    # 300 of each of 4 prompts, under 4, 3 high levels, 2 draws
    assert usual["contrasts"] == 300 * 4 * 4 * 3 * 2


def test_two_processes_are_compared_over_as_many_images(monkeypatch):
    """Where a step costs one second besides its images, the same batch each is twice as fast."""
    world = shapes.World(None, None, None, None, np.zeros(0), [], torch.zeros(0), 64)
    monkeypatch.setattr(together, "TRAINED", {"a model": (lambda: world, 32, 5)})
    monkeypatch.setattr(
        together, "train_together", lambda make, rounds, size: 1 + make().batch / size
    )
    (row,) = together.training(quick=True)["sides"].values()
    assert row[f"{together.ONE}, seconds"]["median"] == 3  # a batch of two
    assert row[f"{together.ONE} / {together.SHARED}"] == 1.5
    assert row[f"{together.ONE} / {together.EACH}"] == 2
