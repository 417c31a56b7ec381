"""Stage 2: what is trained, towards what, and that resuming a training gives the same weights."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tiny_world
from invdiff.core.schedule import add_noise
from invdiff.engine import config as configuration
from invdiff.engine.calibrate import found_prompts
from invdiff.engine.files import read_json, write_json
from invdiff.engine.mixture import Mixture, Regrets, step_owner, stratified_levels
from invdiff.engine.models import resolve, source_of
from invdiff.engine.train import fresh_adapter, load_feedback, load_mixture, train
from invdiff.engine.training.loop import Trainer
from invdiff.engine.training.objective import Objective
from invdiff.errors import ModelError, RunError
from invdiff.model import adapter
from tiny_world import COAT, HAT, contents, copy_of, denoiser, stamps

TEN_STEPS = ("train.steps=10", "train.save_every=5")


@pytest.fixture
def discovered(world, finished, tmp_path):
    """Opens copies of a run whose groups are known, with other settings of the training."""

    def opened(name, *overrides):
        return world.open(copy_of(finished, tmp_path / name, "train"), *overrides)

    return opened


def trained(folder):
    return load_file(folder / "adapter" / adapter.FILE)


def same_adapter(one, other):
    """Bit for bit; only the order of a header's entries differs from file to file."""
    first, second = trained(one), trained(other)
    return (
        first.keys() == second.keys()
        and all(torch.equal(first[name], second[name]) for name in first)
        and adapter.read_settings(one / "adapter") == adapter.read_settings(other / "adapter")
        and contents(one / "adapter", "*.json") == contents(other / "adapter", "*.json")
    )


# Resume


@pytest.fixture
def interrupt(monkeypatch):
    """Let Ctrl-C come in the middle of a training step."""

    def at(number):
        original = Objective.batch

        def batch(self, step):
            if step == number:
                raise KeyboardInterrupt
            return original(self, step)

        monkeypatch.setattr(Objective, "batch", batch)

    return at


def test_ten_steps_are_five_resume_and_five(world, discovered, interrupt, monkeypatch):
    straight = discovered("straight", *TEN_STEPS)
    train(straight)

    broken = discovered("broken", *TEN_STEPS)
    with monkeypatch.context():
        interrupt(7)
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    assert not broken.done("train")
    assert not (broken.path / "adapter").exists()
    assert not adapter.present(denoiser(world).module), "an interrupted training leaves no adapter"
    monkeypatch.undo()
    did = Counter()
    original = Objective.batch
    monkeypatch.setattr(Objective, "batch", lambda self, k: did.update([k]) or original(self, k))

    again = world.open(broken.path, *TEN_STEPS)
    train(again)
    assert sorted(did) == [5, 6, 7, 8, 9]
    assert same_adapter(again.path, straight.path)
    told, expected = (read_json(run.path / "training.json") for run in (again, straight))
    for record in (told, expected):
        record.pop("seconds")
    assert told == expected
    assert told["curve"]["step"] == list(range(10))


def test_what_was_learnt_by_looking_back_survives_an_interruption(
    world, discovered, interrupt, monkeypatch
):
    settings = (*TEN_STEPS, "train.feedback=[0.3,0.7]")
    straight, broken = discovered("straight", *settings), discovered("broken", *settings)
    train(straight)
    with monkeypatch.context():
        interrupt(8)
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    monkeypatch.undo()
    again = world.open(broken.path, *settings)
    train(again)
    aims = read_json(again.path / "training.json")["aims"]
    assert aims == read_json(straight.path / "training.json")["aims"]
    watched = read_json(again.path / "discovery.json")["prompts"]
    assert set(aims) == {name for name, entry in watched.items() if entry["watched"]}
    assert set(aims) >= set(found_prompts(again))
    assert same_adapter(again.path, straight.path)


def test_a_prompt_that_was_even_is_looked_back_at(world, finished, objective):
    """Training can tilt it; only prompts whose groups mean nothing are left out."""
    one = objective("calibrate.images_per_prompt=2")
    one.mixture = replace(one.mixture, balanced=(HAT,), watched=(HAT, COAT))
    one.look_back(load_feedback(world.open(finished)), step=1)
    assert set(one.aims) == {HAT, COAT}


def test_pictures_of_every_scale_correct_the_aims(world, finished, objective, monkeypatch):
    """The scales of the settings, each with pictures of its own; the calibration's without any."""
    asked = []

    def drawn(*_, scale, owner, **__):
        asked.append((scale, owner))
        of_group_1 = {1.0: 20, 2.5: 25, 3.0: 45}[scale]
        return {HAT: np.where(np.arange(50) < of_group_1, 9.0, -9.0)}

    monkeypatch.setattr("invdiff.engine.training.objective.log_ratios", drawn)
    one, aims = objective("calibrate.guidance_scale=2.5"), {}
    one.mixture = replace(one.mixture, watched=(HAT,))
    for scales in ("[]", "[1.0]", "[3.0]", "[1.0,3.0]"):
        chosen = [f"train.feedback_scales={scales}"]
        one.config = configuration.parse(one.config.model_dump(), chosen)
        one.aims = {}
        one.look_back(load_feedback(world.open(finished)), step=7)
        aims[scales] = one.aims[HAT]
    assert [scale for scale, _ in asked] == [2.5, 1.0, 3.0, 1.0, 3.0]
    assert len({owner for _, owner in asked}) == 3
    assert aims["[3.0]"] < aims["[1.0,3.0]"] < 0.5 < aims["[1.0]"]


def test_a_finished_training_is_left_alone(world, finished, tmp_path):
    run = world.open(copy_of(finished, tmp_path / "run"))
    before = stamps(run.path)
    train(run)
    assert stamps(run.path) == before


# One step


@pytest.fixture
def objective(world, finished):
    """The objective of the tiny model with a fresh adapter, which is taken out again."""
    made = []

    def make(*overrides):
        run = world.open(finished)
        model = denoiser(world)
        adapter.add_lora(model.module, 2, seed=1)
        made.append(model.module)
        config = world.config("train.variance_warmup=0", *overrides)
        return Objective(config, model, load_mixture(run))

    yield make
    for module in made:
        adapter.remove(module)


def loss(at_work, step):
    return at_work.errors(at_work.batch(step), 0).mean()


def test_only_the_adapter_gets_gradients(objective):
    at_work = objective()
    module = at_work.denoiser.module
    loss(at_work, 0).backward()
    own = {id(tensor) for tensor in adapter.parameters(module)}
    with_gradient = {id(t) for t in module.parameters() if t.grad is not None}
    assert with_gradient == own
    assert at_work.denoiser.held == ("denoiser",), "the encoders are not in memory"


@pytest.mark.parametrize("space", ["v", "epsilon", "x0"])
def test_the_loss_is_the_plain_denoising_loss_with_a_sampled_target(objective, space):
    """An independent witness: the squared error of what is predicted, in each space."""
    at_work = objective(
        "train.target='sample'", "train.objective='mean'", f"train.loss_space='{space}'",
        "train.batch=6", "train.keep_others=false",
    )  # fmt: skip
    config, model, mixture = at_work.config.train, at_work.denoiser, at_work.mixture
    owner = step_owner(0, 3)
    weights = mixture.weights(at_work.regrets, 0.0, {})
    chosen = torch.multinomial(weights, 6, replacement=True, generator=owner)
    level = stratified_levels(6, config.level_focus, owner)
    timestep = (level * 999).round().long()
    dropped = torch.rand(6, generator=owner) < config.prompt_dropout
    clean = mixture.latents[chosen]
    noise = torch.randn(clean.shape, generator=owner)
    names = ["" if d else mixture.prompt[i] for i, d in zip(chosen, dropped, strict=True)]
    noisy = add_noise(model.schedule, clean, noise, timestep)
    condition = model.encode_prompts(names)
    with torch.no_grad():
        v = model.predict(noisy, timestep, condition)
    square = model.schedule.alphas_cumprod[timestep].view(-1, 1, 1, 1)
    a, s = square.sqrt(), (1 - square).sqrt()
    error = {
        "v": v - (a * noise - s * clean),
        "epsilon": (a * v + s * noisy) - noise,
        "x0": (a * noisy - s * v) - clean,
    }[space]
    expected = error.square().mean()
    torch.testing.assert_close(loss(at_work, 3).detach(), expected, rtol=2e-3, atol=1e-6)


def test_step_n_draws_what_belongs_to_step_n(objective):
    at_work = objective("train.objective='mean'")
    first = loss(at_work, 4).item()
    loss(at_work, 0)
    assert loss(at_work, 4).item() == first
    assert loss(at_work, 5).item() != first


def look_at(at_work, batch):
    """As a step does: the errors of its parts come first."""
    for part in range(len(batch.parts)):
        at_work.errors(batch, part)
    at_work.look(batch, 0)


def test_the_regret_of_a_fresh_adapter_is_zero(objective):
    at_work = objective("train.prompt_dropout=0.0")
    look_at(at_work, at_work.batch(0))
    seen = at_work.regrets.value[np.isfinite(at_work.regrets.value)]
    assert len(seen) > 0
    assert (seen == 0).all()


def test_plain_risks_are_not_regrets(objective):
    at_work = objective("train.objective='plain'")
    look_at(at_work, at_work.batch(0))
    seen = at_work.regrets.value[np.isfinite(at_work.regrets.value)]
    assert (seen > 0).all()


def test_groups_are_drawn_evenly_within_a_balanced_prompt(objective, finished):
    at_work = objective()
    mixture = at_work.mixture
    weights = mixture.weights(at_work.regrets, 1.0, {}).numpy()
    for name in mixture.balanced:
        rows = mixture.prompt == name
        mass = weights[rows] @ mixture.against[rows] / weights[rows].sum()
        assert mass == pytest.approx(0.5, abs=1e-4)
    groups = tiny_world.table(finished / "groups.parquet")
    np.testing.assert_allclose(weights, groups["weight"], rtol=1e-5)


# What is not trained, and what cannot be


def test_with_nothing_to_balance_nothing_is_trained(discovered, monkeypatch):
    run = discovered("run")
    record = read_json(run.path / "discovery.json")
    for entry in record["prompts"].values():
        entry["found"] = False
    write_json(run.path / "discovery.json", record)
    monkeypatch.setattr(Objective, "batch", lambda *_: pytest.fail("a step was made"))
    train(run)
    told = read_json(run.path / "training.json")
    assert told["skipped"] is True
    assert told["steps"] == 0
    assert told["certificate"] is None
    assert read_json(run.path / "adapter" / "calibration.json")["curve"] == []
    assert all(t.eq(0).all() for n, t in trained(run.path).items() if "lora_B" in n)


def test_a_comparison_without_groups_is_trained_all_the_same(discovered):
    """`none` is the LoRA that balances nothing, to compare with."""
    run = discovered("run")
    record = read_json(run.path / "discovery.json")
    for entry in record["prompts"].values():
        entry["found"] = False
    write_json(run.path / "discovery.json", record)
    config = run.config.model_copy(
        update={"discover": run.config.discover.model_copy(update={"estimator": "none"})}
    )
    mixture = load_mixture(run)
    with fresh_adapter(denoiser_of(run), config) as model:
        assert Trainer(config, model, mixture).steps == run.config.train.steps


def denoiser_of(run):
    return resolve(source_of(run))


@pytest.fixture
def spoil(monkeypatch):
    """Let a picture of the batch have no finite loss, in chosen steps."""

    def at(steps, value=float("nan")):
        original, now = Objective.batch, []

        def batch(self, step):
            now[:] = [step]
            return original(self, step)

        errors = Objective.errors

        def spoilt(self, batch, part):
            found = errors(self, batch, part)
            factor = torch.ones(len(found))
            factor[0] = value if now[0] in steps else 1
            return found * factor

        monkeypatch.setattr(Objective, "batch", batch)
        monkeypatch.setattr(Objective, "errors", spoilt)

    return at


def test_a_training_without_finite_gradients_ends_and_names_the_samples(discovered, spoil):
    run = discovered("run", "train.steps=10", "train.max_bad_steps=3")
    spoil(range(2, 10))
    words = r"last 3 training steps.*train\.max_bad_steps.*train\.learning_rate"
    with pytest.raises(ModelError, match=words) as caught:
        train(run)
    assert not (run.path / "adapter").exists()
    known = set(tiny_world.table(run.path / "groups.parquet")["sample_id"])
    named = {word.strip(",.") for word in str(caught.value).split()} & known
    assert 1 <= len(named) <= 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_without_a_finite_gradient_is_left_out_and_counted(discovered, spoil, value):
    run = discovered("run", "train.steps=6", "train.max_bad_steps=2")
    spoil((1, 3), value)
    train(run)
    assert all(torch.isfinite(tensor).all() for tensor in trained(run.path).values())
    told = read_json(run.path / "training.json")["bad_steps"]
    assert [entry["step"] for entry in told] == [1, 3]
    assert all(len(entry["sample_ids"]) == 1 for entry in told)


def test_bad_steps_in_a_row_are_counted_over_an_interruption(
    world, discovered, spoil, interrupt, monkeypatch
):
    settings = ("train.steps=10", "train.save_every=2", "train.max_bad_steps=3")
    run = discovered("run", *settings)
    spoil((2, 3, 4))
    with monkeypatch.context():
        interrupt(4)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    monkeypatch.undo()
    spoil((2, 3, 4))
    with pytest.raises(ModelError, match="last 3 training steps"):
        train(world.open(run.path, *settings))


def test_pictures_that_came_after_discovery_are_named(world, discovered, tmp_path):
    run = discovered("run")
    more = shutil.copytree(world.data, tmp_path / "more")
    Image.new("RGB", (16, 16)).save(more / "new.png")
    with (more / "metadata.csv").open("a", encoding="utf-8") as stream:
        stream.write(f"new.png,{HAT},warm\r\n")
    changed = run.config.data.model_copy(update={"path": str(more)})
    run.config = run.config.model_copy(update={"data": changed})
    with pytest.raises(RunError, match=r"1 of 91 pictures.*--redo"):
        train(run)


# The adapter and the record


def test_what_the_record_says(finished, world):
    told = read_json(finished / "training.json")
    tensors = trained(finished)
    assert told["parameters"] == sum(tensor.numel() for tensor in tensors.values())
    module = denoiser(world).module
    assert told["base_parameters"] == sum(tensor.numel() for tensor in module.parameters())
    assert told["curve"]["step"] == list(range(4))
    found = set(found_prompts(world.open(finished)))
    assert found, "the tiny world is skewed enough to be found"
    assert set(told["regrets"]) == found
    assert {entry["prompt"] for entry in told["certificate"]["after"]["groups"]} == found
    assert told["certificate"]["before"] != told["certificate"]["after"]
    assert (
        adapter.read_settings(finished / "adapter")["recommended_strength"]
        == (read_json(finished / "adapter" / "calibration.json")["strength"])
    )


def test_the_certificate_of_a_fresh_adapter_is_the_same_before_and_after(objective):
    from invdiff.engine.certify import certify

    at_work = objective()
    found = certify(at_work.config, at_work.denoiser, at_work.mixture)
    assert found["before"] == found["after"]


# Small parts


def test_levels_are_stratified():
    levels = stratified_levels(8, 1.0, step_owner(0, 0)).sort().values
    assert (levels * 8).floor().tolist() == list(range(8))
    focused = stratified_levels(4096, 2.0, step_owner(0, 0))
    assert focused.mean().item() == pytest.approx(2 / 3, abs=1e-3)  # density 2 level


def test_a_group_that_was_not_seen_has_no_regret():
    regrets = Regrets((HAT, COAT))
    regrets.update(np.array([1.0, 3.0]), np.array([HAT, HAT]), np.array([0.0, 0.0]))
    assert regrets.value[0, 0] == 2.0
    assert np.isnan([regrets.value[0, 1], *regrets.value[1]]).all()
    regrets.update(np.array([4.0]), np.array([HAT]), np.array([0.0]))
    assert regrets.value[0, 0] == pytest.approx(0.9 * 2 + 0.1 * 4)


def test_the_stable_target_of_one_latent_is_that_latent(world):
    latents = torch.randn(1, 4, 2, 2).expand(5, -1, -1, -1).contiguous()
    prompt = np.array([HAT] * 5)
    mixture = Mixture(latents, prompt, prompt, np.zeros(5), ())
    schedule, noisy = denoiser(world).schedule, torch.randn(3, 4, 2, 2)
    target = mixture.target(
        schedule, noisy, torch.tensor([10, 500, 999]), torch.tensor([0, 1, 2]),
        torch.tensor([False, True, False]), torch.ones(5), step_owner(0, 0),
    )  # fmt: skip
    torch.testing.assert_close(target, latents[:3])


def test_checkpoints_are_json_and_safetensors(discovered, interrupt, monkeypatch):
    run = discovered("run", *TEN_STEPS)
    with monkeypatch.context():
        interrupt(6)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    kept = contents(run.path / "checkpoints")
    assert {name.rpartition(".")[2] for name in kept} == {"json", "safetensors"}
    assert json.loads(kept["step-0000005/facts.json"])["step"] == 5
