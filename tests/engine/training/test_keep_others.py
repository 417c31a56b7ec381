"""Prompts in which nothing was found are trained towards the base, and stay as it draws them."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff.core.diffusion.schedule import clean_from_prediction
from invdiff.engine.training.min_step import MinStep
from invdiff.engine.training.mixture import Mixture
from invdiff.engine.training.train import fresh_adapter, load_mixture
from invdiff.engine.workflow import session_of
from invdiff.model.lora import adapter
from tests.tiny_world import HAT, denoiser


def pools(balanced, monitored):
    names = np.array(["a", "b", "c"])
    return Mixture(torch.zeros(3, 1), names, names, np.zeros(3), balanced, monitored)


@pytest.mark.parametrize(
    ("balanced", "monitored", "others"),
    [(("a",), ("a", "b"), [0, 0, 1]), (("a",), ("a",), [0, 1, 1]), ((), ("b",), [0, 0, 0])],
)
def test_others_are_those_without_groups_beside_some_that_are_balanced(balanced, monitored, others):
    assert pools(balanced, monitored).others.tolist() == others


@pytest.fixture
def at_work(world, finished):
    """An objective whose second prompt alone is balanced, with an adapter that does something."""
    with ExitStack() as stack:

        def make(*overrides):
            stack.close()  # one adapter at a time
            run = world.open(finished)
            config = world.config("train.prompt_dropout=0.3", "train.batch_size=32", *overrides)
            model = stack.enter_context(fresh_adapter(denoiser(world), config))
            with torch.no_grad():
                for name, parameter in model.module.named_parameters():
                    if "lora_B" in name:
                        parameter += 0.02
            mixture = replace(load_mixture(session_of(run)), balanced=(HAT,), monitored=(HAT,))
            return MinStep(config, model, mixture)

        yield make


def estimates(objective, batch):
    """What the network predicts for the rows of a batch."""
    denoiser, rows = objective.denoiser, batch.rows
    names = np.where(batch.dropped, "", objective.mixture.prompt[batch.chosen.numpy()])
    condition = objective.known(names[rows].tolist(), denoiser.module.device)
    noisy, timestep = batch.noisy[rows], batch.timestep[rows]
    prediction = denoiser.predict(noisy, timestep, condition)
    return clean_from_prediction(denoiser.schedule, prediction, noisy, timestep)


@torch.no_grad()
def test_their_target_is_what_the_base_predicts(at_work):
    objective = at_work()
    batch = objective.batch(3)
    prompts = objective.mixture.prompt[batch.chosen.numpy()]
    assert batch.kept.tolist() == [
        name != HAT and not dropped for name, dropped in zip(prompts, batch.dropped, strict=True)
    ]
    assert 0 < batch.kept.sum() < len(batch) - batch.dropped.sum()
    errors, kept = objective.errors(batch, 0), batch.kept
    guided = estimates(objective, batch)
    with adapter.disabled(objective.denoiser.module):
        base = estimates(objective, batch)
    torch.testing.assert_close(
        errors[kept], objective._weighted(batch, batch.rows, guided, base)[kept]
    )


@torch.no_grad()
def test_nothing_else_of_a_step_changes(at_work):
    kept = at_work()
    batch = kept.batch(3)
    errors = kept.errors(batch, 0)
    trained = at_work()
    trained.others[:] = False
    other = trained.batch(3)
    assert not other.kept.any()
    assert torch.equal(other.chosen, batch.chosen)
    assert torch.equal(other.noisy, batch.noisy)
    assert torch.equal(other.target, batch.target)
    rest, changed = ~batch.kept, trained.errors(other, 0)
    torch.testing.assert_close(changed[rest], errors[rest])
    assert not torch.isclose(changed[batch.kept], errors[batch.kept]).any()
    torch.testing.assert_close(other.risk, batch.risk)


def test_a_fresh_adapter_has_nothing_to_learn_there(at_work):
    objective = at_work()
    for name, parameter in objective.denoiser.module.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    batch = objective.batch(0)
    errors = objective.errors(batch, 0)
    assert errors[batch.kept].abs().max() < 1e-9
    assert errors[~batch.kept].min() > 1e-6
