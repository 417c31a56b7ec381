"""Short trainings of the tiny world, and what they left behind; fixtures and helpers."""

import json
from contextlib import ExitStack

import pytest
from safetensors.torch import load_file

from invdiff.engine.storage.files import read_json
from invdiff.engine.training.log import FILE
from invdiff.engine.training.train import (
    fresh_adapter,
    load_mid_training_check,
    load_mixture,
)
from invdiff.engine.training.trainer import Trainer
from invdiff.engine.workflow import do_stage, session_of
from invdiff.model.lora import adapter_file
from tests.tiny_world import copy_of, denoiser

STEPS = ("train.steps=4", "train.checkpointing_steps=2", "calibrate.strengths=[1.0]")


@pytest.fixture
def discovered(world, finished, tmp_path):
    def opened(name, *overrides):
        copied = copy_of(finished, tmp_path / name, "train")
        return world.open(copied, *STEPS, *overrides)

    return opened


@pytest.fixture(scope="session")
def plain(world, finished, tmp_path_factory):
    """A training with these settings and no other; look, don't touch."""
    run = world.open(copy_of(finished, tmp_path_factory.mktemp("plain") / "run", "train"), *STEPS)
    do_stage(run, "train")
    return run


def weights(run):
    return load_file(run.path / "adapter" / adapter_file.FILE)


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
            return Trainer(
                config,
                model,
                load_mixture(session_of(run)),
                load_mid_training_check(session_of(run)),
            )

        yield make


def failing_at(number, original=Trainer.step):
    def step(self, step):
        if step == number:
            raise KeyboardInterrupt
        return original(self, step)

    return step
