"""Stage 2: what is trained, towards what, and that resuming a training gives the same weights."""

import json
import shutil
from collections import Counter

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from invdiff.data.samples import Samples
from invdiff.engine.base_model.loading import resolve
from invdiff.engine.storage.files import read_json, write_json
from invdiff.engine.training.min_step import MinStep
from invdiff.engine.training.train import fresh_adapter, load_mixture
from invdiff.engine.training.trainer import Trainer
from invdiff.engine.workflow import do_stage, session_of
from invdiff.errors import ModelError, RunError
from invdiff.model.lora import adapter, adapter_file
from tests import tiny_world
from tests.tiny_world import HAT, contents, copy_of, denoiser, resealed, stamps

TEN_STEPS = ("train.steps=10", "train.checkpointing_steps=5")


@pytest.fixture
def discovered(world, finished, tmp_path):
    """Opens copies of a run whose groups are known, with other settings of the training."""

    def opened(name, *overrides):
        return world.open(copy_of(finished, tmp_path / name, "train"), *overrides)

    return opened


def trained(folder):
    return load_file(folder / "adapter" / adapter_file.FILE)


def same_adapter(one, other):
    """Bit for bit; only the order of a header's entries differs from file to file."""
    first, second = trained(one), trained(other)
    return (
        first.keys() == second.keys()
        and all(torch.equal(first[name], second[name]) for name in first)
        and adapter_file.read_settings(one / "adapter")
        == adapter_file.read_settings(other / "adapter")
        and contents(one / "adapter", "*.json") == contents(other / "adapter", "*.json")
    )


# Resume


@pytest.fixture
def interrupt(monkeypatch):
    """Let Ctrl-C come in the middle of a training step."""

    def at(number):
        original = MinStep.batch

        def batch(self, step):
            if step == number:
                raise KeyboardInterrupt
            return original(self, step)

        monkeypatch.setattr(MinStep, "batch", batch)

    return at


def test_ten_steps_are_five_resume_and_five(world, discovered, interrupt, monkeypatch):
    """With what was learnt by looking back, before the interruption and after it."""
    settings = (*TEN_STEPS, "train.share_feedback=[0.3,0.7]")
    straight = discovered("straight", *settings)
    do_stage(straight, "train")

    broken = discovered("broken", *settings)
    with monkeypatch.context():
        interrupt(8)
        with pytest.raises(KeyboardInterrupt):
            do_stage(broken, "train")
    assert not broken.done("train")
    assert not (broken.path / "adapter").exists()
    assert not adapter.has_adapter(denoiser(world).module), (
        "an interrupted training leaves no adapter"
    )
    monkeypatch.undo()
    did = Counter()
    original = MinStep.batch
    monkeypatch.setattr(MinStep, "batch", lambda self, k: did.update([k]) or original(self, k))

    again = world.open(broken.path, *settings)
    do_stage(again, "train")
    assert sorted(did) == [5, 6, 7, 8, 9]
    assert same_adapter(again.path, straight.path)
    told, expected = (read_json(run.path / "training.json") for run in (again, straight))
    for record in (told, expected):
        record.pop("seconds")
    assert told == expected
    assert told["curve"]["step"] == list(range(10))
    assert [look["step"] for look in told["mid_training_checks"]] == [3, 7]
    assert told["mid_training_checks"][-1]["aims"] == told["aims"]
    monitored = read_json(again.path / "discovery.json")["prompts"]
    assert set(told["aims"]) == {name for name, entry in monitored.items() if entry["monitored"]}
    assert set(told["aims"]) >= set(session_of(again).results.discovery.found)


def test_a_finished_training_is_left_alone(world, finished, tmp_path):
    run = world.open(copy_of(finished, tmp_path / "run"))
    before = stamps(run.path)
    do_stage(run, "train")
    assert stamps(run.path) == before


# What is not trained, and what cannot be


def test_with_nothing_to_balance_nothing_is_trained(discovered, monkeypatch):
    run = discovered("run")
    record = read_json(run.path / "discovery.json")
    for entry in record["prompts"].values():
        entry["found"] = False
    write_json(run.path / "discovery.json", record)
    resealed(run.path)
    monkeypatch.setattr(MinStep, "batch", lambda *_: pytest.fail("a step was made"))
    do_stage(run, "train")
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
    resealed(run.path)
    config = run.config.model_copy(
        update={"study": run.config.study.model_copy(update={"estimator": "none"})}
    )
    mixture = load_mixture(session_of(run))
    with fresh_adapter(denoiser_of(run), config) as model:
        assert Trainer(config, model, mixture).steps == run.config.train.steps


def denoiser_of(run):
    return resolve(session_of(run).source)


@pytest.fixture
def spoil(monkeypatch):
    """Let a picture of the batch have no finite loss, in chosen steps."""

    def at(steps, value=float("nan")):
        original, now = MinStep.batch, []

        def batch(self, step):
            now[:] = [step]
            return original(self, step)

        errors = MinStep.errors

        def spoilt(self, batch, part):
            found = errors(self, batch, part)
            factor = torch.ones(len(found))
            factor[0] = value if now[0] in steps else 1
            return found * factor

        monkeypatch.setattr(MinStep, "batch", batch)
        monkeypatch.setattr(MinStep, "errors", spoilt)

    return at


def test_a_training_without_finite_gradients_ends_and_names_the_samples(
    discovered, spoil, monkeypatch
):
    run = discovered("run", "train.steps=10")
    monkeypatch.setattr("invdiff.engine.training.trainer.MOST_BAD", 3)
    spoil(range(2, 10))
    words = r"last 3 training steps.*train\.learning_rate"
    with pytest.raises(ModelError, match=words) as caught:
        do_stage(run, "train")
    assert not (run.path / "adapter").exists()
    known = set(tiny_world.table(run.path / "groups.parquet")["sample_id"])
    named = {word.strip(",.") for word in str(caught.value).split()} & known
    assert 1 <= len(named) <= 3


def test_a_step_without_a_finite_gradient_is_left_out_and_counted(discovered, spoil, monkeypatch):
    run = discovered("run", "train.steps=6")
    monkeypatch.setattr("invdiff.engine.training.trainer.MOST_BAD", 2)
    spoil((1, 3), float("inf"))
    do_stage(run, "train")
    assert all(torch.isfinite(tensor).all() for tensor in trained(run.path).values())
    told = read_json(run.path / "training.json")["bad_steps"]
    assert [entry["step"] for entry in told] == [1, 3]
    assert all(len(entry["sample_ids"]) == 1 for entry in told)


def test_bad_steps_in_a_row_are_counted_over_an_interruption(
    world, discovered, spoil, interrupt, monkeypatch
):
    settings = ("train.steps=10", "train.checkpointing_steps=2")
    run = discovered("run", *settings)
    spoil((2, 3, 4))
    with monkeypatch.context():
        interrupt(4)
        with pytest.raises(KeyboardInterrupt):
            do_stage(run, "train")
    monkeypatch.undo()
    monkeypatch.setattr("invdiff.engine.training.trainer.MOST_BAD", 3)
    spoil((2, 3, 4))
    with pytest.raises(ModelError, match="last 3 training steps"):
        do_stage(world.open(run.path, *settings), "train")


def test_pictures_that_came_after_discovery_are_named(world, discovered, tmp_path):
    run = discovered("run")
    more = shutil.copytree(world.data, tmp_path / "more")
    Image.new("RGB", (16, 16)).save(more / "new.png")
    with (more / "metadata.csv").open("a", encoding="utf-8") as stream:
        stream.write(f"new.png,{HAT},warm\r\n")
    changed = run.config.data.model_copy(update={"path": str(more)})
    run.config = run.config.model_copy(update={"data": changed})
    with pytest.raises(RunError, match=r"changed since .* was discovered: pictures"):
        do_stage(run, "train")


# The adapter and the record


def test_what_the_record_says(finished, world):
    told = read_json(finished / "training.json")
    tensors = trained(finished)
    assert told["parameters"] == sum(tensor.numel() for tensor in tensors.values())
    module = denoiser(world).module
    assert told["base_parameters"] == sum(tensor.numel() for tensor in module.parameters())
    assert told["curve"]["step"] == list(range(4))
    found = set(session_of(world.open(finished)).results.discovery.found)
    assert found, "the tiny world is skewed enough to be found"
    assert set(told["regrets"]) == found
    assert {entry["prompt"] for entry in told["certificate"]["after"]["groups"]} == found
    assert told["certificate"]["before"] != told["certificate"]["after"]
    assert (
        adapter_file.read_settings(finished / "adapter")["recommended_strength"]
        == (read_json(finished / "adapter" / "calibration.json")["strength"])
    )


def test_checkpoints_are_json_and_safetensors(discovered, interrupt, monkeypatch):
    run = discovered("run", *TEN_STEPS)
    with monkeypatch.context():
        interrupt(6)
        with pytest.raises(KeyboardInterrupt):
            do_stage(run, "train")
    kept = contents(run.path / "checkpoints")
    assert {name.rpartition(".")[2] for name in kept} == {"json", "safetensors"}
    assert json.loads(kept["step-0000005/facts.json"])["step"] == 5


def test_pictures_that_are_gone_since_the_groups_were_inferred_are_told(world, finished):
    session = session_of(world.open(finished))
    whole = session.samples
    session.__dict__["samples"] = Samples(whole.sample_id[1:], whole.prompt[1:], whole.pictures)
    with pytest.raises(RunError, match=f"1 of {len(whole)} pictures that the groups were inferred"):
        load_mixture(session)
