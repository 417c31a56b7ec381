"""Mirrored pictures in training: their latents, which step sees them, and what it aims at."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff.engine.encoding.encode import Encode
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings import schema
from invdiff.engine.training.checks import MidTrainingCheck
from invdiff.engine.training.min_step import MinStep, step_owner
from invdiff.engine.training.mixture import Mixture, is_flipped
from invdiff.engine.training.train import _shared, load_mixture
from invdiff.engine.workflow import do_stage, session_of
from invdiff.model.lora import adapter, adapter_file
from tests import tiny_world
from tests.tiny_world import HAT, contents, copy_of, denoiser

SETTINGS = ("study.estimator='random'", "train.steps=6", "train.checkpointing_steps=3")


@pytest.fixture(scope="module")
def grouped(world, finished, tmp_path_factory):
    """A run that has groups, whatever the tiny model has learnt; look, don't touch."""
    path = copy_of(finished, tmp_path_factory.mktemp("grouped") / "run", "discover")
    do_stage(world.open(path, *SETTINGS), "discover")
    return path


@pytest.fixture
def opened(world, grouped, tmp_path):
    """Opens copies of it."""

    def make(name, *overrides):
        return world.open(copy_of(grouped, tmp_path / name), *SETTINGS, *overrides)

    return make


@pytest.fixture
def run(opened):
    return opened("run", "train.random_flip=true")


def two_views(count=6):
    """Latents that tell their image and their view apart."""
    plain = torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(-1, 4, 2, 2).contiguous()
    prompt = np.array([HAT] * count)
    names = np.array([f"picture {k}" for k in range(count)])
    return Mixture(plain, prompt, prompt, np.zeros(count), (), (), names, 0.5, -plain)


def test_flipped_latents_are_those_of_mirrored_pictures(run):
    samples = session_of(run).samples
    before = contents(run.path / "cache", "latents*")
    found = load_mixture(session_of(run))
    pictures = samples.pictures(list(range(len(samples))))
    source = session_of(run).source
    mirrored = np.stack([np.fliplr(picture) for picture in pictures])
    assert torch.equal(
        found.flipped, Encode(source, run.config.discover.batch_size)(mirrored)["latent"]
    )
    assert torch.equal(
        found.latents, Encode(source, run.config.discover.batch_size)(pictures)["latent"]
    )
    kept = contents(run.path / "cache", "latents*")
    assert kept.items() >= before.items()
    assert len(kept) == len(before) + 1


def test_they_are_made_once_and_only_if_asked_for(run, monkeypatch):
    first = load_mixture(session_of(run))
    monkeypatch.setattr(Encode, "__call__", None)  # nothing is encoded
    assert torch.equal(load_mixture(session_of(run)).flipped, first.flipped)
    run.config = configuration.load(run.config.model_dump(), ["train.random_flip=false"])
    assert load_mixture(session_of(run)).flipped is None


def test_the_view_belongs_to_seed_step_and_picture():
    everything = two_views()
    chosen = torch.tensor([3, 0, 3, 5])
    for step in range(8):
        seen = everything.clean(chosen, 7, step)[:, 0, 0, 0]
        signs = [-1 if is_flipped(7, step, f"picture {k}") else 1 for k in chosen.tolist()]
        assert seen.tolist() == [s * (k + 1) for s, k in zip(signs, chosen.tolist(), strict=True)]
        rest = everything.subset(np.array([5, 3])).clean(torch.tensor([1]), 7, step)
        assert torch.equal(rest[:, 0, 0, 0], seen[:1])


@pytest.mark.parametrize("changed", ["seed", "step", "picture"])
def test_half_of_the_views_are_mirrored_and_each_part_counts(changed):
    def turned(k):
        owner = {"seed": 0, "step": 0, "picture": 0} | {changed: k}
        return is_flipped(owner["seed"], owner["step"], f"{owner['picture']}")

    assert np.mean([turned(k) for k in range(1000)]) == pytest.approx(0.5, abs=0.06)


def test_without_mirrored_latents_nothing_is_mirrored():
    plain = replace(two_views(), flipped=None)
    chosen = torch.tensor([2, 4])
    assert all(torch.equal(plain.clean(chosen, 0, n), plain.latents[chosen]) for n in range(8))


def test_a_mirrored_picture_is_aimed_at_itself(world):
    """Nearly without noise the posterior mean is the latent that was noised, in its view."""
    everything, chosen = two_views(), torch.tensor([1, 4, 1, 4])
    clean = torch.cat([everything.latents[[1, 4]], everything.flipped[[1, 4]]])
    schedule = denoiser(world).schedule
    signal, _ = schedule.factors(torch.tensor([5] * 4), clean)

    def target(mixture):
        return mixture.target(
            schedule, signal * clean, torch.tensor([5] * 4), chosen,
            torch.zeros(4, dtype=torch.bool), torch.ones(6), step_owner(0, 0),
        )  # fmt: skip

    torch.testing.assert_close(target(everything), clean)
    assert not torch.allclose(target(replace(everything, flipped=None)), clean, atol=0.5)


def test_both_views_weigh_the_same(world):
    """At pure noise the target is the mean of everything that training sees."""
    everything = two_views()
    weights = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 9.0])
    schedule, chosen = denoiser(world).schedule, torch.tensor([0])
    found = replace(everything, flipped=3 * everything.latents).target(
        schedule, torch.zeros(1, 4, 2, 2), torch.tensor([999]), chosen,
        torch.tensor([False]), weights, step_owner(0, 0),
    )  # fmt: skip
    mean = (everything.latents[:, 0, 0, 0] @ weights) / weights.sum()
    torch.testing.assert_close(found, torch.full_like(found, 2 * mean), rtol=0.1, atol=0)


def test_a_step_trains_on_the_views_that_it_has(run, world):
    model = denoiser(world)
    adapter.add_lora(model.module, 2, seed=1)
    try:
        at_work = MinStep(run.config, model, load_mixture(session_of(run)))
        batch = at_work.batch(3)
        assert torch.equal(batch.clean, at_work.mixture.clean(batch.chosen, run.config.seed, 3))
        plain = at_work.mixture.latents[batch.chosen]
        turned = (batch.clean != plain).flatten(1).any(1).tolist()
        ids = at_work.mixture.sample_id[batch.chosen.numpy()]
        assert turned == [is_flipped(run.config.seed, 3, name) for name in ids]
        at_work.mixture = replace(at_work.mixture, flipped=None)
        assert torch.equal(at_work.batch(3).chosen, batch.chosen), "no other draw changes"
    finally:
        adapter.remove(model.module)


def test_an_interrupted_training_goes_on_to_the_same_adapter(run, world, opened, monkeypatch):
    do_stage(run, "train")
    broken = opened("broken", "train.random_flip=true")
    original = MinStep.batch

    def batch(self, step):
        if step == 4:
            raise KeyboardInterrupt
        return original(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(MinStep, "batch", batch)
        with pytest.raises(KeyboardInterrupt):
            do_stage(broken, "train")
    do_stage(world.open(broken.path, *SETTINGS, "train.random_flip=true"), "train")
    one, two = (
        tiny_world.tensors(path / "adapter" / adapter_file.FILE) for path in (run.path, broken.path)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


class Wire:
    """A team of two whose leader speaks first and whose other rank hears it afterwards."""

    def __init__(self):
        self.said = deque()

    def share(self, value=None):
        if value is not None and value != (None, None):
            self.said.append(value)
            return value
        return self.said.popleft()

    share_tensor = share


@pytest.mark.parametrize("flip", [True, False])
def test_every_rank_has_both_views(flip):
    mixture = two_views() if flip else replace(two_views(), flipped=None)
    wire, feedback = Wire(), MidTrainingCheck({}, {})
    led, _ = _shared(wire, mixture, feedback)
    light = wire.said[1][0]
    assert len(light.latents) == 0, "tensors go by themselves"
    assert light.flipped is None or len(light.flipped) == 0
    helped, _ = _shared(wire, None, None)
    for one in (led, helped):
        assert torch.equal(one.latents, mixture.latents)
        assert (one.flipped is None) == (not flip)
        assert not flip or torch.equal(one.flipped, mixture.flipped)
    assert not wire.said


def test_it_is_off_by_default():
    assert not schema.Config().train.random_flip
