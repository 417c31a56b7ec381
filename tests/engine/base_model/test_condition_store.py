"""Conditions of prompts: each encoded once, found again by later processes, refused if altered."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from invdiff.engine.base_model.conditions import InMemory, OnDisk
from invdiff.model.denoiser import Condition


def condition(prompts):
    hidden = torch.tensor([[[float(len(text))] * 3] for text in prompts])
    return Condition({"hidden": hidden, "pooled": hidden[:, 0]})


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    return InMemory() if request.param == "memory" else OnDisk(tmp_path, "encoder float32")


def test_rows_come_back_in_the_order_asked_for(store):
    store.put(["a", "bbb"], condition(["a", "bbb"]))
    store.put([""], condition([""]))
    found = store.get(["bbb", "", "a", "bbb"]).tensors
    assert found["hidden"][:, 0, 0].tolist() == [3, 0, 1, 3]
    assert found["pooled"].shape == (4, 3)


def test_missing_are_those_that_were_never_put_each_once(store):
    store.put(["a"], condition(["a"]))
    assert store.missing(["b", "a", "", "b"]) == ["b", ""]


def test_a_later_process_finds_what_an_earlier_one_wrote(tmp_path):
    early, late = OnDisk(tmp_path, "encoder"), OnDisk(tmp_path, "encoder")
    assert late.missing(["a"]) == ["a"]
    early.put(["a"], condition(["a"]))
    assert late.missing(["a", "b"]) == ["b"]
    assert late.get(["a"]).tensors["hidden"].flatten().tolist() == [1, 1, 1]


def test_conditions_of_another_encoder_are_not_taken(tmp_path):
    OnDisk(tmp_path, "encoder float32").put(["a"], condition(["a"]))
    assert OnDisk(tmp_path, "encoder float16").missing(["a"]) == ["a"]


def test_a_file_that_was_altered_is_made_again(tmp_path):
    OnDisk(tmp_path, "encoder").put(["a", "b"], condition(["a", "b"]))
    (path,) = tmp_path.iterdir()
    with safe_open(path, "pt") as file:
        about = file.metadata()
    save_file({name: value + 1 for name, value in load_file(path).items()}, path, about)
    store = OnDisk(tmp_path, "encoder")
    assert store.missing(["a", "b"]) == ["a", "b"]
    store.put(["a", "b"], condition(["a", "b"]))
    assert OnDisk(tmp_path, "encoder").missing(["a", "b"]) == []
