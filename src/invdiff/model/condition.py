"""What a denoiser is told besides the noisy latent: one or several tensors, a row a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Conditions of n pictures: `tensors` by name, the first axis of each is the picture.

    Families name what they need: hidden states of the text encoders, a pooled embedding, a mask.
    All conditions of one denoiser have the same names, and the same shapes but for the first axis.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Sequence[int] | Tensor) -> Self:
        """The conditions of some pictures; to repeat a row, name it twice."""
        return type(self)({name: tensor[rows] for name, tensor in self.tensors.items()})

    def expand(self, count: int) -> Self:
        """A single condition, for `count` pictures."""
        return type(self)({name: t.expand(count, *t.shape[1:]) for name, t in self.tensors.items()})

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return type(self)({name: tensor.to(device) for name, tensor in self.tensors.items()})

    @classmethod
    def cat(cls, parts: Sequence["Condition"]) -> Self:
        """The conditions of the pictures of all parts, in their order."""
        names = parts[0].tensors
        return cls({name: torch.cat([part.tensors[name] for part in parts]) for name in names})
