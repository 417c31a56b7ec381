"""Trainings that are stopped, damaged or out of room go on where they were."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress

import pytest

from invdiff.app import cli
from invdiff.engine.distributed.team import Team
from invdiff.engine.storage import checkpoint
from invdiff.engine.training import state
from invdiff.engine.training.trainer import Trainer
from invdiff.engine.workflow import do_stage
from invdiff.errors import (
    Interrupted,
    InvDiffWarning,
    RunError,
)
from tests.engine.training_runs import STEPS, distance, failing_at, record, weights
from tests.tiny_world import copy_of


def test_a_signal_saves_and_the_same_command_goes_on(world, discovered, plain, monkeypatch):
    run = discovered("stopped")
    original = Trainer.step

    def step(self, number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        with pytest.raises(Interrupted):
            do_stage(run, "train")
    newest = max(path.name for path in (run.path / "checkpoints").iterdir())
    assert newest == "step-0000003", "the step is finished, between two checkpoints of the settings"
    again = world.open(run.path, *STEPS)
    do_stage(again, "train")
    assert distance(weights(again), weights(plain)) == 0
    assert record(again) == record(plain)


def test_the_second_signal_ends_it_at_once(discovered, monkeypatch):
    run = discovered("stopped")

    def step(self, number):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it went on")

    monkeypatch.setattr(Trainer, "step", step)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            do_stage(run, "train")
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (run.path / "checkpoints").exists()


def test_a_signal_while_looking_back_saves_what_was_before(world, discovered, monkeypatch):
    settings = ("train.share_feedback=[0.75]", "calibrate.images_per_prompt=40")
    straight, run = discovered("straight", *settings), discovered("stopped", *settings)
    do_stage(straight, "train")
    with monkeypatch.context() as patch:
        original = Team.stop_if_asked

        def asked(self):
            self.stop.asked = checkpointed(run) == 2
            original(self)

        patch.setattr(Team, "stop_if_asked", asked)
        with pytest.raises(Interrupted):
            do_stage(run, "train")
    again = world.open(run.path, *STEPS, *settings)
    do_stage(again, "train")
    assert distance(weights(again), weights(straight)) == 0


def checkpointed(run):
    names = [path.name for path in (run.path / "checkpoints").glob("step-*")]
    return int(max(names, default="step-0").removeprefix("step-"))


@pytest.mark.parametrize("moments", [(2,), (3, 3), (2, 3), "end"])
def test_interruptions_at_a_save_twice_between_saves_and_at_the_end(
    world, discovered, plain, monkeypatch, moments
):
    run = discovered("broken")
    with monkeypatch.context() as patch:
        if moments == "end":
            patch.setattr("invdiff.engine.training.train.certify", failing_certify)
            moments = (4,)
        for moment in moments:
            patch.setattr(Trainer, "step", failing_at(moment))
            with pytest.raises(KeyboardInterrupt):
                do_stage(world.open(run.path, *STEPS), "train")
    again = world.open(run.path, *STEPS)
    if moments == (4,):
        monkeypatch.setattr(Trainer, "step", lambda *_: pytest.fail("a step was made again"))
    do_stage(again, "train")
    assert distance(weights(again), weights(plain)) == 0
    assert record(again) == record(plain)


def failing_certify(*_):
    raise KeyboardInterrupt


def test_damage_to_the_newest_checkpoint_costs_one_interval(world, discovered, plain, monkeypatch):
    run = discovered("broken", "train.checkpointing_steps=1")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing_at(3))
        with pytest.raises(KeyboardInterrupt):
            do_stage(run, "train")
    kept = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    assert kept == ["step-0000002", "step-0000003"]
    file = run.path / "checkpoints" / kept[1] / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    again = world.open(run.path, *STEPS, "train.checkpointing_steps=1")
    with pytest.warns(InvDiffWarning, match=r"damaged: .*step-0000003; going on from step-0000002"):
        do_stage(again, "train")
    assert distance(weights(again), weights(plain)) == 0


def test_a_disk_without_room_is_refused_before_the_work(discovered, monkeypatch):
    run = discovered("run")
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(state.shutil, "disk_usage", lambda _: full)
    monkeypatch.setattr(Trainer, "step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(RunError, match=r"needs about 1 MB .* 1 MB are free: make room"):
        do_stage(run, "train")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB, where this user may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_leaves_the_checkpoint_before(
    world, finished, plain, small_disk, monkeypatch, capfd
):
    run = world.open(
        copy_of(finished, small_disk / "run", "train"), *STEPS, "train.checkpointing_steps=1"
    )
    filler, original = small_disk / "filler", Trainer.step

    def step(self, number):
        if number == 2:
            with suppress(OSError), filler.open("wb", buffering=0) as handle:
                while True:
                    handle.write(bytes(2**12))
        return original(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        assert cli.main(["train", "--out", str(run.path)]) == 1
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("invdiff:")]
    assert len(said) == 1
    assert "the disk is full" in said[0]
    kept = sorted((run.path / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-0000001", "step-0000002"]
    assert all(map(checkpoint.is_valid, kept))
    filler.unlink()
    assert cli.main(["train", "--out", str(run.path)]) == 0
    assert distance(weights(run), weights(plain)) == 0
