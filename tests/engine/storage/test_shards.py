"""Shards that are there are not made again, and the number of processes changes nothing."""

import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from invdiff.engine.storage.hashed_tensors import cached, short_name

SHARDS = [(0, 3), (3, 4), (4, 9)]
ABOUT = {"model": "tiny", "levels": [0.5]}


def squares(span):
    """One row for each number; at the top of the module, so that workers can find it."""
    numbers = torch.arange(*span).float()
    return {"square": numbers**2, "pair": torch.stack([numbers, -numbers], 1)}


def run(folder, work=squares, shards=SHARDS, processes=1, about=ABOUT, load=None):
    options = {"processes": processes, "title": "making", "load": load}
    return cached(work, shards, folder, "made", about, **options)


def counting(made):
    def work(span):
        made.append(span)
        return squares(span)

    return work


def test_results_are_joined_in_the_order_of_the_shards(tmp_path):
    found = run(tmp_path)
    assert found["square"].tolist() == [float(n * n) for n in range(9)]
    assert found["pair"].shape == (9, 2)
    assert sorted(os.listdir(tmp_path / short_name(ABOUT))) == [
        f"made-{n:05d}.safetensors" for n in range(3)
    ]


def test_one_and_two_processes_give_the_same(tmp_path):
    one, two = run(tmp_path / "one"), run(tmp_path / "two", processes=2)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_what_is_there_is_not_made_again(tmp_path):
    first, made = run(tmp_path), []
    again = run(tmp_path, counting(made))
    assert made == []
    assert torch.equal(again["pair"], first["pair"])


def test_an_interrupted_pass_goes_on_where_it_was(tmp_path):
    def interrupted(span):
        if span[0] == 4:
            raise KeyboardInterrupt
        return squares(span)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupted)
    made = []
    found = run(tmp_path, counting(made))
    assert made == [(4, 9)]
    assert found["square"].tolist() == [float(n * n) for n in range(9)]


@pytest.mark.parametrize("left", [0, 1, 20, -1])
def test_a_damaged_file_is_made_again(tmp_path, left):
    run(tmp_path)
    damaged = tmp_path / short_name(ABOUT) / "made-00001.safetensors"
    os.truncate(damaged, left if left >= 0 else damaged.stat().st_size - 1)
    made = []
    found = run(tmp_path, counting(made))
    assert made == [(3, 4)]
    assert found["square"].tolist() == [float(n * n) for n in range(9)]
    assert run(tmp_path, counting(made))["square"].tolist() == found["square"].tolist()
    assert made == [(3, 4)]


def test_what_is_not_contiguous_can_be_kept(tmp_path):
    def turned(span):
        return {"pair": squares(span)["pair"].T.contiguous().T}

    assert torch.equal(run(tmp_path, turned)["pair"], run(tmp_path / "plain")["pair"])


@pytest.mark.parametrize("header", [True, False])
def test_an_altered_shard_is_made_again(tmp_path, header):
    """The file can be read and its header may be the right one: the tensors are not."""
    first = run(tmp_path)
    path = tmp_path / short_name(ABOUT) / "made-00001.safetensors"
    about = None
    if header:
        with safe_open(path, "pt") as file:
            about = file.metadata()
    changed = load_file(path)
    changed["square"] += 1
    save_file(changed, path, about)
    made = []
    again = run(tmp_path, counting(made))
    assert made == [(3, 4)]
    assert torch.equal(again["square"], first["square"])


def test_a_shard_about_something_else_is_made_again(tmp_path):
    """Whoever moves a file to the place of another does not pass it off as that."""
    other = ABOUT | {"levels": [0.6]}
    run(tmp_path, about=other)
    os.rename(tmp_path / short_name(other), tmp_path / short_name(ABOUT))
    made = []
    run(tmp_path, counting(made))
    assert made == SHARDS
    os.replace(*(tmp_path / short_name(ABOUT) / f"made-0000{k}.safetensors" for k in (1, 0)))
    made.clear()
    run(tmp_path, counting(made))
    assert made == SHARDS[:2]


def test_only_what_is_missing_is_loaded(tmp_path):
    run(tmp_path)
    (tmp_path / short_name(ABOUT) / "made-00002.safetensors").unlink()
    loaded = []
    run(tmp_path, load=lambda span: loaded.append(span) or span)
    assert loaded == [(4, 9)]
