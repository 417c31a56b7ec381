"""What a training tells: its log, validation, previews and trackers."""

import numpy as np
import pytest
import torch
from PIL import Image

from invdiff.engine.sampling.sampler import Sampler
from invdiff.engine.training.checks import is_held
from invdiff.engine.training.log import FILE
from invdiff.engine.training.train import load_mixture
from invdiff.engine.training.trainer import Trainer
from invdiff.engine.workflow import do_stage, session_of
from tests.engine.training_runs import STEPS, failing_at, lines, record


def test_every_step_is_one_line(plain):
    told = lines(plain)
    assert [line["step"] for line in told] == list(range(4))
    assert [line["loss"] for line in told] == record(plain)["curve"]["loss"]
    assert all(line["gradient_norm"] > 0 and line["learning_rate"] > 0 for line in told)


def test_the_norm_is_that_before_clipping(trainer, monkeypatch):
    at_work = trainer()
    objective = at_work.state.objective
    at_work._gradients(objective.batch(0))
    whole = torch.cat([p.grad.flatten() for p in at_work.parameters]).norm().item()
    monkeypatch.setattr("invdiff.engine.training.trainer.MOST_NORM", whole / 10)
    assert at_work.step(0)["gradient_norm"] == pytest.approx(whole, rel=1e-5)


def test_an_interrupted_log_goes_on_without_gaps_or_repeats(world, discovered, monkeypatch):
    settings = ("train.validation_steps=2",)
    monkeypatch.setattr("invdiff.engine.training.checks.HELD_SHARE", 0.2)
    straight, broken = discovered("straight", *settings), discovered("broken", *settings)
    do_stage(straight, "train")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing_at(3))
        with pytest.raises(KeyboardInterrupt):
            do_stage(broken, "train")
    with (broken.path / FILE).open("a") as handle:
        handle.write('{"step": 3, "lo')  # killed while it wrote
    again = world.open(broken.path, *STEPS, *settings)
    do_stage(again, "train")
    assert lines(again) == lines(straight)
    assert record(again) == record(straight)
    assert record(again)["validation"]["step"] == [0, 2, 4]


def test_held_pictures_are_not_trained_on(world, discovered, monkeypatch):
    run = discovered("run", "train.validation_steps=4")
    monkeypatch.setattr("invdiff.engine.training.checks.HELD_SHARE", 0.3)
    seen = set()
    original = Trainer.step

    def step(self, number):
        seen.update(self.mixture.sample_id.tolist())
        return original(self, number)

    monkeypatch.setattr(Trainer, "step", step)
    do_stage(run, "train")
    everything = load_mixture(session_of(run)).sample_id
    held = is_held(run.config.seed, everything.tolist(), 0.3)
    assert 0.1 < held.mean() < 0.5
    assert seen == set(everything[~held].tolist())
    first, last = record(run)["validation"]["loss"]
    assert first != last


def test_grids_show_the_base_above_the_guided(discovered):
    run = discovered("run", "train.preview_steps=2", "train.learning_rate=0.5")
    do_stage(run, "train")
    names = sorted(path.name for path in (run.path / "previews").iterdir())
    assert names == ["base.png", "step-0000002.png", "step-0000004.png"]
    base = np.asarray(Image.open(run.path / "previews" / "base.png"))
    for name in names[1:]:
        grid = np.asarray(Image.open(run.path / "previews" / name))
        assert grid.shape == (2 * base.shape[0], *base.shape[1:])
        assert np.array_equal(grid[: len(base)], base)
        assert not np.array_equal(grid[len(base) :], base)


def test_grids_and_looking_back_are_drawn_within_the_window(discovered, monkeypatch):
    """The base above is the base all the same."""
    settings = ("train.preview_steps=4", "train.learning_rate=0.5", "train.share_feedback=[0.5]")
    told, original = [], Sampler.latents

    def latents(self, *of):
        told.append(self.window)
        return original(self, *of)

    grids = []
    for name, window in (("whole", "[0.0,1.0]"), ("high", "[0.5,1.0]")):
        run = discovered(name, f"sample.window={window}", "sample.steps=4", *settings)
        monkeypatch.setattr(Sampler, "latents", latents)
        do_stage(run, "train")
        grids.append(np.asarray(Image.open(run.path / "previews" / "step-0000004.png")))
    half = len(grids[0]) // 2
    assert np.array_equal(grids[0][:half], grids[1][:half])
    assert not np.array_equal(grids[0][half:], grids[1][half:])
    assert set(told) == {(0.0, 1.0), (0.5, 1.0)}


def test_tensorboard_gets_the_numbers(discovered):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = discovered("run", "train.report_to=['tensorboard']")
    do_stage(run, "train")
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    told = [event.value for event in events.Scalars("train/loss")]
    assert told == pytest.approx([line["loss"] for line in lines(run)], rel=1e-5)
