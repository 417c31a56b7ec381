"""Each setting of the training does what it says; most change the result, some must not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from invdiff.app import cli
from invdiff.engine import checkpoint
from invdiff.engine.files import read_json
from invdiff.engine.mixture import levels_of, step_owner
from invdiff.engine.models import ModelRef, _load, load_pipeline
from invdiff.engine.train import fresh_adapter, load_feedback, load_mixture, team_size, train
from invdiff.engine.training import state
from invdiff.engine.training.average import Average
from invdiff.engine.training.log import FILE
from invdiff.engine.training.loop import Trainer, prepared
from invdiff.engine.training.scaling import Scale
from invdiff.engine.training.team import Team
from invdiff.engine.training.validation import is_held
from invdiff.errors import (
    ConfigError,
    Interrupted,
    InvDiffWarning,
    MissingExtra,
    ModelError,
    RunError,
)
from invdiff.model import adapter
from tiny_world import copy_of, denoiser

STEPS = ("train.steps=4", "train.save_every=2", "calibrate.strengths=[1.0]")


@pytest.fixture
def discovered(world, finished, tmp_path):
    def opened(name, *overrides):
        copied = copy_of(finished, tmp_path / name, "train")
        return world.open(copied, *STEPS, *overrides)

    return opened


@pytest.fixture
def plain(discovered):
    run = discovered("plain")
    train(run)
    return run


def weights(run):
    return load_file(run.path / "adapter" / adapter.FILE)


def distance(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def record(run):
    told = read_json(run.path / "training.json")
    told.pop("seconds")
    return told


def lines(run):
    return [json.loads(line) for line in (run.path / FILE).read_text().splitlines()]


@pytest.fixture
def trainer(world, finished):
    """A trainer on the tiny model with a fresh adapter, without a run to write to."""
    with ExitStack() as stack:

        def make(*overrides, precise=None):
            stack.close()  # one adapter at a time
            run = world.open(finished)
            config = world.config(*STEPS, *overrides)
            model = stack.enter_context(fresh_adapter(precise or denoiser(world), config))
            return Trainer(config, model, load_mixture(run), load_feedback(run))

        yield make


# Options that change nothing but rounding


@pytest.mark.parametrize(
    ("setting", "most"),
    [("train.accumulate=2", 1e-5), ("train.gradient_checkpointing=true", 0.0)],
)
def test_saving_memory_gives_the_same_adapter(discovered, plain, setting, most):
    run = discovered("saving", setting)
    train(run)
    assert distance(weights(run), weights(plain)) <= most


def test_a_batch_in_parts_is_held_in_parts(trainer, monkeypatch):
    at_work = trainer("train.accumulate=2", "train.keep_others=false")  # one pass a part
    seen = []
    original = type(at_work.denoiser).predict

    def predict(self, noisy, *args):
        seen.append(len(noisy))
        return original(self, noisy, *args)

    monkeypatch.setattr(type(at_work.denoiser), "predict", predict)
    at_work.step(1)  # a step without a look at the risks
    assert seen == [2, 2]


def test_gradient_checkpointing_keeps_less_for_the_backward_pass(trainer):
    def kept(*overrides):
        at_work, sizes = trainer(*overrides), {}

        def note(tensor):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with (
            prepared(at_work.denoiser.module, at_work.config),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            objective = at_work.state.objective
            objective.errors(objective.batch(0), 0)
        return sum(sizes.values())

    whole = kept()
    assert kept("train.gradient_checkpointing=true") < 0.8 * whole


def test_a_compiled_network_is_called_and_taken_back(trainer, monkeypatch):
    """torch.compile itself would take a compiler, and minutes: here it only counts the calls."""
    calls = []

    def compiled(call):
        return lambda *args, **kwargs: calls.append(1) or call(*args, **kwargs)

    monkeypatch.setattr(torch, "compile", compiled)
    at_work = trainer("train.compile=true", "train.keep_others=false")  # one pass a step
    module, objective = at_work.denoiser.module, at_work.state.objective
    with prepared(module, at_work.config):
        inside = objective.errors(objective.batch(1), 0)
    assert calls == [1]
    assert torch.equal(objective.errors(objective.batch(1), 0), inside)
    assert calls == [1], "the network is as it was"


def test_adapted_layers_are_fused_while_the_network_is_trained(trainer):
    at_work = trainer()
    module = at_work.denoiser.module
    layers = adapter.adapted_layers(module).values()
    with prepared(module, at_work.config):
        assert all("forward" in vars(layer) for layer in layers)
    assert not any("forward" in vars(layer) for layer in layers)


def test_ranks_share_a_batch_as_one_process_would_take_it(trainer):
    """Their gradients add up to the whole one; every rank draws the same batch."""
    at_work = trainer()
    objective = at_work.state.objective
    at_work._gradients(objective.batch(3))
    whole = [p.grad.clone() for p in at_work.parameters]
    for parameter in at_work.parameters:
        parameter.grad = None
    drawn = []
    for rank in range(3):
        objective.team = Team(rank, 3)
        drawn.append(objective.batch(3))
        at_work._gradients(drawn[-1])
    for parameter, expected in zip(at_work.parameters, whole, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-7)
    assert torch.cat([batch.rows for batch in drawn]).tolist() == [0, 1, 2, 3]
    assert all(torch.equal(batch.noisy, drawn[0].noisy) for batch in drawn)


def test_more_parts_than_images_are_refused(world):
    with pytest.raises(ConfigError, match=r"train\.accumulate: 2 processes in 3 parts"):
        world.config("train.accumulate=3", "train.processes=2")
    with pytest.raises(RunError, match=r"5 processes.*a batch of 4"):
        Team(0, 5).parts(4, 1)


def test_a_pipeline_object_stays_in_its_process(discovered, world):
    run = discovered("object", "train.processes=2")
    run.pipeline = denoiser(world).pipeline
    with pytest.raises(RunError, match=r"pipeline object.*train\.processes = 1"):
        train(run)


def test_an_automatic_number_of_processes_is_one_that_is_possible(world, monkeypatch):
    here = ModelRef("faces", "cpu", "float32")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert team_size(world.config("train.processes=0"), here) == 2
    assert team_size(world.config("train.processes=0", "train.accumulate=3"), here) == 1
    assert team_size(world.config("train.processes=0"), denoiser(world).pipeline) == 1
    assert team_size(world.config("train.processes=3"), here) == 3
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert team_size(world.config("train.processes=0"), here) == 1


# Optimisers


@pytest.mark.parametrize("name", ["prodigy", "adafactor"])
def test_other_optimisers_resume_to_the_bit(world, discovered, name, monkeypatch):
    rate = 1.0 if name == "prodigy" else 1e-3
    settings = (f"train.optimiser='{name}'", f"train.learning_rate={rate}", "train.steps=6")
    straight = discovered("straight", *settings)
    train(straight)
    assert any(tensor.any() for name, tensor in weights(straight).items() if "lora_B" in name)
    broken = discovered("broken", *settings)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing_at(5))
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    again = world.open(broken.path, *STEPS, *settings)
    train(again)
    assert distance(weights(again), weights(straight)) == 0


def failing_at(number, original=Trainer.step):
    def step(self, step):
        if step == number:
            raise KeyboardInterrupt
        return original(self, step)

    return step


@pytest.mark.parametrize(
    ("setting", "module", "extra"),
    [
        ("train.optimiser='prodigy'", "prodigyopt", "optimisers"),
        ("train.optimiser='adamw8bit'", "bitsandbytes.optim", "optimisers"),
        ("train.trackers=['tensorboard']", "torch.utils.tensorboard", "trackers"),
        ("train.trackers=['wandb']", "wandb", "trackers"),
    ],
)
def test_what_is_not_installed_is_named(discovered, monkeypatch, setting, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'invdiff\[{extra}\]'"):
        train(discovered("run", setting))


# The average


def test_the_average_follows_its_formula():
    parameter = torch.nn.Parameter(torch.zeros(3))
    average = Average(0.9, [parameter])
    expected = 0.0
    for step in range(200):
        with torch.no_grad():
            parameter.fill_(step)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        assert parameter.tolist() == pytest.approx([expected] * 3, rel=1e-4)
    assert parameter.tolist() == [199.0] * 3
    average.keep()
    assert parameter.tolist() == pytest.approx([expected] * 3, rel=1e-4)


def test_the_average_is_kept_and_survives_an_interruption(world, discovered, plain, monkeypatch):
    straight = discovered("straight", "train.ema=0.5")
    train(straight)
    assert distance(weights(straight), weights(plain)) > 1e-5
    assert record(straight)["curve"] == record(plain)["curve"], "the steps are the same ones"
    broken = discovered("broken", "train.ema=0.5")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing_at(3))
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    again = world.open(broken.path, *STEPS, "train.ema=0.5")
    train(again)
    assert distance(weights(again), weights(straight)) == 0


# Half precision


def test_the_scale_finds_what_half_precision_bears():
    scale = Scale.of(torch.float16)
    first = scale.value
    scale.update(finite=False)
    assert scale.value == first / 2
    for _ in range(2000):
        scale.update(finite=True)
    assert scale.value == first
    assert Scale.of(torch.float32).value == Scale.of(torch.bfloat16).value == 1


def test_gradients_through_half_precision_are_those_of_full(world, trainer):
    def gradients(dtype):
        model = _load.__wrapped__(ModelRef(str(world.model), "cpu", dtype))
        at_work = trainer(precise=model)
        for parameter in at_work.parameters:
            parameter.data.add_(0.01)
        at_work._gradients(at_work.state.objective.batch(1))
        return torch.cat([p.grad.flatten() for p in at_work.parameters])

    full, half = gradients("float32"), gradients("float16")
    assert torch.nn.functional.cosine_similarity(full, half, dim=0) > 0.99
    assert half.norm().item() == pytest.approx(full.norm().item(), rel=0.05)


# Weightings


def test_logit_normal_levels(world):
    section = world.config(
        "train.level_density='logit_normal'", "train.batch=4096", "train.logit_mean=0.5",
        "train.logit_std=0.7",
    ).train  # fmt: skip
    odds = torch.logit(levels_of(section, step_owner(0, 0)).double())
    assert odds.mean().item() == pytest.approx(0.5, abs=0.01)
    assert odds.std().item() == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("sampling", ["stratified", "independent", "shared"])
def test_the_levels_of_a_batch_follow_the_focus_however_they_hang_together(world, sampling):
    section = world.config(
        f"train.level_sampling='{sampling}'", "train.batch=64", "train.level_focus=2.0"
    ).train
    drawn = torch.stack([levels_of(section, step_owner(0, step)) for step in range(400)])
    assert ((drawn > 0) & (drawn <= 1)).all()
    assert drawn.square().mean().item() == pytest.approx(0.5, abs=0.04)  # density 2 t
    of_batch = drawn.square().mean(1).std().item()
    alone = (1 / 12) ** 0.5
    wanted = {"stratified": alone / 512, "independent": alone / 8, "shared": alone}[sampling]
    assert of_batch == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize(
    "setting",
    [
        "train.loss_space='min_snr'", "train.level_density='logit_normal'",
        "train.learning_rate=1e-4", "train.level_sampling='shared'",
        "train.level_sampling='independent'",
    ],
)  # fmt: skip
def test_weightings_change_the_result(discovered, plain, setting):
    run = discovered("other", setting)
    train(run)
    assert distance(weights(run), weights(plain)) > 1e-6


def test_the_mean_alone_is_no_lambda(discovered):
    """So the ablation has one row for both."""
    long = ("train.steps=10", "train.batch=16", "train.save_every=10", "train.variance_warmup=0")
    runs = [
        discovered(name, *long, change)
        for name, change in [
            ("mean", "train.objective='mean'"),
            ("zero", "train.variance_weight=0.0"),
            ("large", "train.variance_weight=1e6"),
        ]
    ]
    for run in runs:
        train(run)
    mean, zero, large = (weights(run) for run in runs)
    assert all(torch.equal(mean[name], zero[name]) for name in mean)
    assert not all(torch.equal(mean[name], large[name]) for name in mean)


def test_attention_that_is_not_there_is_refused(world, tmp_path):
    with pytest.raises(ModelError, match=r'model\.attention = "xformers".*use "auto"'):
        load_pipeline(ModelRef(str(world.model), "cpu", "float32", "xformers"))
    load_pipeline(ModelRef(str(world.model), "cpu", "float32", "native"))


# What is told


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
    monkeypatch.setattr("invdiff.engine.training.loop.MOST_NORM", whole / 10)
    assert at_work.step(0)["gradient_norm"] == pytest.approx(whole, rel=1e-5)


def test_an_interrupted_log_goes_on_without_gaps_or_repeats(world, discovered, monkeypatch):
    settings = ("train.validate_every=2", "train.held_share=0.2")
    straight, broken = discovered("straight", *settings), discovered("broken", *settings)
    train(straight)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing_at(3))
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    with (broken.path / FILE).open("a") as handle:
        handle.write('{"step": 3, "lo')  # killed while it wrote
    again = world.open(broken.path, *STEPS, *settings)
    train(again)
    assert lines(again) == lines(straight)
    assert record(again) == record(straight)
    assert record(again)["validation"]["step"] == [0, 2, 4]


def test_held_pictures_are_not_trained_on(world, discovered, monkeypatch):
    run = discovered("run", "train.validate_every=4", "train.held_share=0.3")
    seen = set()
    original = Trainer.step

    def step(self, number):
        seen.update(self.mixture.sample_id.tolist())
        return original(self, number)

    monkeypatch.setattr(Trainer, "step", step)
    train(run)
    everything = load_mixture(run).sample_id
    held = is_held(run.config.seed, everything.tolist(), 0.3)
    assert 0.1 < held.mean() < 0.5
    assert seen == set(everything[~held].tolist())
    first, last = record(run)["validation"]["loss"]
    assert first != last


def test_grids_show_the_base_above_the_guided(discovered):
    run = discovered("run", "train.preview_every=2", "train.learning_rate=0.5")
    train(run)
    names = sorted(path.name for path in (run.path / "previews").iterdir())
    assert names == ["base.png", "step-0000002.png", "step-0000004.png"]
    base = np.asarray(Image.open(run.path / "previews" / "base.png"))
    for name in names[1:]:
        grid = np.asarray(Image.open(run.path / "previews" / name))
        assert grid.shape == (2 * base.shape[0], *base.shape[1:])
        assert np.array_equal(grid[: len(base)], base)
        assert not np.array_equal(grid[len(base) :], base)


def test_tensorboard_gets_the_numbers(discovered):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = discovered("run", "train.trackers=['tensorboard']")
    train(run)
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    told = [event.value for event in events.Scalars("train/loss")]
    assert told == pytest.approx([line["loss"] for line in lines(run)], rel=1e-5)


# Stops, damage, a full disk


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
            train(run)
    newest = max(path.name for path in (run.path / "checkpoints").iterdir())
    assert newest == "step-0000003", "the step is finished, between two checkpoints of the settings"
    again = world.open(run.path, *STEPS)
    train(again)
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
            train(run)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (run.path / "checkpoints").exists()


def test_a_signal_while_looking_back_saves_what_was_before(world, discovered, monkeypatch):
    settings = ("train.feedback=[0.75]", "calibrate.images_per_prompt=40")
    straight, run = discovered("straight", *settings), discovered("stopped", *settings)
    train(straight)
    with monkeypatch.context() as patch:
        original = Team.stop_if_asked

        def asked(self):
            self.stop.asked = checkpointed(run) == 2
            original(self)

        patch.setattr(Team, "stop_if_asked", asked)
        with pytest.raises(Interrupted):
            train(run)
    again = world.open(run.path, *STEPS, *settings)
    train(again)
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
            patch.setattr("invdiff.engine.train.certify", failing_certify)
            moments = (4,)
        for moment in moments:
            patch.setattr(Trainer, "step", failing_at(moment))
            with pytest.raises(KeyboardInterrupt):
                train(world.open(run.path, *STEPS))
    again = world.open(run.path, *STEPS)
    if moments == (4,):
        monkeypatch.setattr(Trainer, "step", lambda *_: pytest.fail("a step was made again"))
    train(again)
    assert distance(weights(again), weights(plain)) == 0
    assert record(again) == record(plain)


def failing_certify(*_):
    raise KeyboardInterrupt


def test_damage_to_the_newest_checkpoint_costs_one_interval(world, discovered, plain, monkeypatch):
    run = discovered("broken", "train.save_every=1")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing_at(3))
        with pytest.raises(KeyboardInterrupt):
            train(run)
    kept = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    assert kept == ["step-0000002", "step-0000003"]
    file = run.path / "checkpoints" / kept[1] / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    again = world.open(run.path, *STEPS, "train.save_every=1")
    with pytest.warns(InvDiffWarning, match=r"damaged: .*step-0000003; going on from step-0000002"):
        train(again)
    assert distance(weights(again), weights(plain)) == 0


def test_a_disk_without_room_is_refused_before_the_work(discovered, monkeypatch):
    run = discovered("run")
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(state.shutil, "disk_usage", lambda _: full)
    monkeypatch.setattr(Trainer, "step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(RunError, match=r"needs about 1 MB .* 1 MB are free: make room"):
        train(run)


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
    run = world.open(copy_of(finished, small_disk / "run", "train"), *STEPS, "train.save_every=1")
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
