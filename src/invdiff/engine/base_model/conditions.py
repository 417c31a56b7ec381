"""Conditions of prompts, each encoded once and kept on the CPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from invdiff.model.denoiser import Condition, Denoiser

BATCH = 64


@dataclass(frozen=True)
class KnownConditions:
    """Conditions of some prompts, the null prompt among them."""

    condition: Condition
    row: Mapping[str, int]

    def __call__(self, prompts: Sequence[str], device: torch.device) -> Condition:
        """The conditions of these prompts, in their order."""
        return self.condition[[self.row[prompt] for prompt in prompts]].to(device)


def encode_known(denoiser: Denoiser, prompts: Sequence[str]) -> KnownConditions:
    """Encode the distinct ones of ``prompts``, and the null prompt alone.

    In batches, because free captions are many and the encoders of some families are large.
    """
    names = sorted(set(prompts) - {""})
    batches = [names[start : start + BATCH] for start in range(0, len(names), BATCH)]
    parts = [denoiser.encode_prompts(batch).to("cpu") for batch in [*batches, [""]]]
    rows = {name: row for row, name in enumerate([*names, ""])}
    return KnownConditions(Condition.cat(parts), rows)
