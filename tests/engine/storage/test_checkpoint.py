"""Checkpoints survive a kill at any moment, and give back every bit."""

import json
import os

import pytest
import torch

from invdiff.engine.storage import checkpoint
from invdiff.errors import InvDiffWarning


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def step(model, optimiser, number):
    seen = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
    optimiser.zero_grad()
    model(seen).square().sum().backward()
    optimiser.step()


def written(folder, steps=(1, 2), keep=5):
    for number in steps:
        checkpoint.save_checkpoint(
            folder, number, {"x": torch.full((2,), float(number))}, {"n": number}, keep
        )
    return folder / f"step-{steps[-1]:07d}"


def step_of(folder):
    found = checkpoint.newest(folder)
    if found is None:
        return None
    tensors, facts = found
    assert tensors["x"].tolist() == [facts["n"]] * 2
    assert facts["step"] == facts["n"]
    return facts["step"]


def test_the_newest_comes_back_and_older_ones_go(tmp_path):
    assert checkpoint.newest(tmp_path / "nothing") is None
    written(tmp_path, steps=(5, 90, 100), keep=2)
    assert step_of(tmp_path) == 100
    assert sorted(os.listdir(tmp_path)) == ["step-0000090", "step-0000100"]


def test_the_same_step_can_be_written_again(tmp_path):
    last = written(tmp_path)
    checkpoint.save_checkpoint(tmp_path, 2, {"x": torch.zeros(2)}, {"n": 0, "step": 0}, 5)
    assert checkpoint.newest(tmp_path)[0]["x"].tolist() == [0, 0]
    assert last.is_dir()


DAMAGE = {
    "no manifest": lambda p: (p / "manifest.json").unlink(),
    "an empty manifest": lambda p: (p / "manifest.json").write_text(""),
    "a cut manifest": lambda p: (p / "manifest.json").write_text('{"tensors.safet'),
    "a manifest of another kind": lambda p: (p / "manifest.json").write_text("[]"),
    "a manifest of nothing": lambda p: (p / "manifest.json").write_text("{}"),
    "no tensors": lambda p: (p / "tensors.safetensors").unlink(),
    "cut tensors": lambda p: os.truncate(p / "tensors.safetensors", 40),
    "other facts": lambda p: (p / "facts.json").write_text('{"step": 2, "n": 3}'),
    "nothing at all": lambda p: [file.unlink() for file in p.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    last = written(tmp_path)
    damage(last)
    assert not checkpoint.is_valid(last)
    with pytest.warns(InvDiffWarning, match=r"damaged: .*step-0000002; going on from step-0000001"):
        assert step_of(tmp_path) == 1
    damage(tmp_path / "step-0000001")
    with pytest.warns(InvDiffWarning, match=r"step-0000002, .*step-0000001; beginning again"):
        assert step_of(tmp_path) is None


def test_every_bit_of_the_tensors_is_guarded(tmp_path):
    last = written(tmp_path)
    tensors = last / "tensors.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    with pytest.warns(InvDiffWarning):
        assert step_of(tmp_path) == 1


@pytest.mark.parametrize("call", ["save_file", "_digest", "_flush", "os.replace"])
def test_a_kill_while_writing_leaves_the_one_before(tmp_path, monkeypatch, call):
    written(tmp_path, steps=(1,))

    def killed(*_):
        raise KeyboardInterrupt

    holder = checkpoint.os if call == "os.replace" else checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(holder, call.removeprefix("os."), killed)
        with pytest.raises(KeyboardInterrupt):
            written(tmp_path, steps=(2,))
    assert os.listdir(tmp_path) == ["step-0000001"]
    assert step_of(tmp_path) == 1


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path):
    """SIGKILL: the stage folder stays, complete but for its name."""
    written(tmp_path, steps=(1,))
    os.rename(written(tmp_path), tmp_path / ".stage-0000002-1")
    assert step_of(tmp_path) == 1


def test_the_manifest_is_written_last_and_before_the_name(tmp_path, monkeypatch):
    seen = []

    def monitored(stage, final):
        files = json.loads((stage / "manifest.json").read_text())
        seen.append(set(files) | {"manifest.json"} == set(os.listdir(stage)))
        assert not final.exists()
        os.rename(stage, final)

    monkeypatch.setattr(checkpoint.os, "replace", monitored)
    written(tmp_path, steps=(1,))
    assert seen == [True]


def test_training_goes_on_exactly_as_if_it_had_not_been_stopped(tmp_path):
    def fresh(seed):
        model = network(seed)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    model, optimiser = fresh(0)
    for number in range(5):
        step(model, optimiser, number)
    checkpoint.save_checkpoint(tmp_path, 5, checkpoint.pack(model=model, optimiser=optimiser), {})
    other, resumed = fresh(1)
    checkpoint.unpack(checkpoint.newest(tmp_path)[0], model=other, optimiser=resumed)
    for number in range(5, 10):
        step(model, optimiser, number)
        step(other, resumed, number)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    states = (o.state_dict()["state"] for o in (optimiser, resumed))
    for one, two in zip(*(s.values() for s in states), strict=True):
        assert one.keys() == two.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_packing_takes_a_copy():
    model = network()
    tensors = checkpoint.pack(model=model)
    before = tensors["model/0.bias"].clone()
    with torch.no_grad():
        model[0].bias += 1
    assert torch.equal(tensors["model/0.bias"], before)


def test_a_fresh_optimiser_has_nothing_to_pack():
    optimiser = torch.optim.AdamW(network().parameters())
    tensors = checkpoint.pack(optimiser=optimiser)
    assert not [name for name in tensors if not name.startswith("optimiser/group/")]
    checkpoint.unpack(tensors, optimiser=optimiser)
    assert optimiser.state_dict()["state"] == {}
