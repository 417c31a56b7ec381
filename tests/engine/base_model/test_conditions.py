"""Prompts are encoded once each, in batches, and come back in the order they are asked for."""

import torch

from invdiff.engine.base_model import conditions
from invdiff.model.denoiser import Condition


class Counting:
    """A denoiser of which only the prompt encoder is asked."""

    def __init__(self):
        self.batches = []

    def encode_prompts(self, texts):
        self.batches.append(list(texts))
        return Condition({"length": torch.tensor([[float(len(text))] for text in texts])})


def test_each_prompt_is_encoded_once_and_the_null_prompt_alone():
    model = Counting()
    known = conditions.encode_known(model, ["bb", "a", "bb", "", "a"])
    assert model.batches == [["a", "bb"], [""]]
    told = known(["bb", "", "a", "bb"], torch.device("cpu"))
    assert told.tensors["length"].flatten().tolist() == [2, 0, 1, 2]


def test_many_prompts_are_encoded_in_batches(monkeypatch):
    monkeypatch.setattr(conditions, "BATCH", 2)
    model, texts = Counting(), ["a" * count for count in range(1, 6)]
    known = conditions.encode_known(model, texts)
    assert [len(batch) for batch in model.batches] == [2, 2, 1, 1]
    assert known(texts, torch.device("cpu")).tensors["length"].flatten().tolist() == [1, 2, 3, 4, 5]
