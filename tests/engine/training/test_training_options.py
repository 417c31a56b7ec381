"""Each setting of the training does what it says; most change the result, some must not."""

import sys

import pytest
import torch

from invdiff.engine.base_model.loading import ModelRef, _load, load_pipeline
from invdiff.engine.distributed.team import Team
from invdiff.engine.fitting.optimisers import Average
from invdiff.engine.training.min_step import step_owner, stratified_levels
from invdiff.engine.training.train import team_size
from invdiff.engine.training.trainer import Trainer, prepared
from invdiff.engine.workflow import do_stage
from invdiff.errors import (
    ConfigError,
    MissingExtra,
    ModelError,
    RunError,
)
from invdiff.model.lora import adapter
from tests.engine.training_runs import STEPS, distance, failing_at, record, weights
from tests.tiny_world import denoiser

# Options that change nothing but rounding


@pytest.mark.parametrize(
    ("setting", "most"),
    [("train.gradient_accumulation_steps=2", 1e-5), ("train.gradient_checkpointing=true", 0.0)],
)
def test_saving_memory_gives_the_same_adapter(discovered, plain, setting, most):
    run = discovered("saving", setting)
    do_stage(run, "train")
    assert distance(weights(run), weights(plain)) <= most


def test_a_batch_in_parts_is_held_in_parts(trainer, monkeypatch):
    at_work = trainer("train.gradient_accumulation_steps=2")
    at_work.state.objective.others[:] = False  # one pass a part
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
    at_work = trainer("train.compile=true")
    module, objective = at_work.denoiser.module, at_work.state.objective
    objective.others[:] = False  # one pass a step
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
    with pytest.raises(
        ConfigError, match=r"train\.gradient_accumulation_steps: 2 processes in 3 parts"
    ):
        world.config("train.gradient_accumulation_steps=3", "train.processes=2")
    with pytest.raises(RunError, match=r"5 processes.*a batch of 4"):
        Team(0, 5).parts(4, 1)


def test_a_pipeline_object_stays_in_its_process(discovered, world):
    run = discovered("object", "train.processes=2")
    run.pipeline = denoiser(world).pipeline
    with pytest.raises(RunError, match=r"pipeline object.*train\.processes = 1"):
        do_stage(run, "train")


def test_an_automatic_number_of_processes_is_one_that_is_possible(world, monkeypatch):
    here = ModelRef("faces", "cpu", "float32")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert team_size(world.config("train.processes=0"), here) == 2
    assert (
        team_size(world.config("train.processes=0", "train.gradient_accumulation_steps=3"), here)
        == 1
    )
    assert team_size(world.config("train.processes=0"), denoiser(world).pipeline) == 1
    assert team_size(world.config("train.processes=3"), here) == 3
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert team_size(world.config("train.processes=0"), here) == 1


# Optimisers


@pytest.mark.parametrize("name", ["prodigy", "adafactor"])
def test_other_optimisers_resume_to_the_bit(world, discovered, name, monkeypatch):
    rate = 1.0 if name == "prodigy" else 1e-3
    settings = (f"train.optimizer='{name}'", f"train.learning_rate={rate}")
    straight = discovered("straight", *settings)
    do_stage(straight, "train")
    assert any(tensor.any() for name, tensor in weights(straight).items() if "lora_B" in name)
    broken = discovered("broken", *settings)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing_at(3))
        with pytest.raises(KeyboardInterrupt):
            do_stage(broken, "train")
    again = world.open(broken.path, *STEPS, *settings)
    do_stage(again, "train")
    assert distance(weights(again), weights(straight)) == 0


@pytest.mark.parametrize(
    ("setting", "module", "extra"),
    [
        ("train.optimizer='prodigy'", "prodigyopt", "optimisers"),
        ("train.optimizer='adamw8bit'", "bitsandbytes.optim", "optimisers"),
        ("train.report_to=['tensorboard']", "torch.utils.tensorboard", "trackers"),
        ("train.report_to=['wandb']", "wandb", "trackers"),
    ],
)
def test_what_is_not_installed_is_named(discovered, monkeypatch, setting, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'invdiff\[{extra}\]'"):
        do_stage(discovered("run", setting), "train")


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
    straight = discovered("straight", "train.ema_decay=0.5")
    do_stage(straight, "train")
    assert distance(weights(straight), weights(plain)) > 1e-5
    assert record(straight)["curve"] == record(plain)["curve"], "the steps are the same ones"
    broken = discovered("broken", "train.ema_decay=0.5")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing_at(3))
        with pytest.raises(KeyboardInterrupt):
            do_stage(broken, "train")
    again = world.open(broken.path, *STEPS, "train.ema_decay=0.5")
    do_stage(again, "train")
    assert distance(weights(again), weights(straight)) == 0


# Half precision


def in_half(world, trainer):
    return trainer(precise=_load.__wrapped__(ModelRef(str(world.model), "cpu", "float16")))


def test_the_scale_finds_what_half_precision_bears(world, trainer, tmp_path):
    at_work = in_half(world, trainer)
    at_work.step(0)
    state, first = at_work.state, at_work.state.scaler.get_scale()
    before = adapter.state(at_work.denoiser.module)
    overflow = at_work.parameters[0].register_hook(lambda gradient: gradient * torch.inf)
    at_work.step(1)
    assert state.scaler.get_scale() == first / 2
    after = adapter.state(at_work.denoiser.module)
    assert all(torch.equal(before[name], after[name]) for name in before)
    overflow.remove()
    at_work.step(2)
    state.save(tmp_path, 3, 1)
    again = in_half(world, trainer).state
    assert again.resume(tmp_path, Team()) == 3
    assert again.scaler.state_dict() == state.scaler.state_dict()
    assert again.scaler.state_dict()["_growth_tracker"] == 1


def test_only_half_precision_is_scaled(trainer):
    assert trainer().state.scaler.get_scale() == 1


def test_gradients_through_half_precision_are_those_of_full(world, trainer):
    def gradients(dtype):
        at_work = trainer(precise=_load.__wrapped__(ModelRef(str(world.model), "cpu", dtype)))
        for parameter in at_work.parameters:
            parameter.data.add_(0.01)
        at_work._gradients(at_work.state.objective.batch(1))
        return torch.cat([p.grad.flatten() for p in at_work.parameters])

    full, half = gradients("float32"), gradients("float16")
    assert torch.nn.functional.cosine_similarity(full, half, dim=0) > 0.99
    assert half.norm().item() == pytest.approx(full.norm().item(), rel=0.05)


# Weightings


def test_the_levels_of_a_batch_follow_the_focus():
    drawn = torch.stack([stratified_levels(64, 2.0, step_owner(0, step)) for step in range(400)])
    assert ((drawn > 0) & (drawn <= 1)).all()
    assert drawn.square().mean().item() == pytest.approx(0.5, abs=0.04)  # density 2 t
    of_batch = drawn.square().mean(1).std().item()
    assert of_batch == pytest.approx((1 / 12) ** 0.5 / 512, rel=0.15), "one from each slice"


def test_lambda_changes_the_result(discovered, monkeypatch):
    monkeypatch.setattr("invdiff.engine.training.min_step.VARIANCE_WARMUP", 1)
    long = ("train.steps=10", "train.batch_size=16", "train.checkpointing_steps=10")
    changes = ("train.variance_weight=0.0", "train.variance_weight=1e6")
    runs = [discovered(f"run{number}", *long, change) for number, change in enumerate(changes)]
    for run in runs:
        do_stage(run, "train")
    zero, large = map(weights, runs)
    assert not all(torch.equal(zero[name], large[name]) for name in zero)


def test_attention_that_is_not_there_is_refused(world, tmp_path):
    with pytest.raises(ModelError, match=r'model\.attention = "xformers".*use "auto"'):
        load_pipeline(ModelRef(str(world.model), "cpu", "float32", "xformers"))
    load_pipeline(ModelRef(str(world.model), "cpu", "float32", "native"))
