"""Who owns which random draw.

Every draw has an owner, named by a seed and a tuple of keys (stage, step, image...). The generator
of an owner depends on nothing else: not on the batch size, the number of processes or on how often
a run was interrupted. Nothing in InvDiff draws from a global generator.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Key = int | str


def derive(seed: int, *keys: Key) -> int:
    """A 63-bit seed for the owner ``keys`` under the run's ``seed``."""
    text = "/".join([str(seed), *map(str, keys)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *keys: Key) -> torch.Generator:
    """The CPU generator that belongs to ``keys`` alone."""
    return torch.Generator("cpu").manual_seed(derive(seed, *keys))


def epoch_order(count: int, seed: int, *keys: Key) -> torch.Tensor:
    """A permutation of ``range(count)`` that belongs to ``keys``."""
    return torch.randperm(count, generator=generator(seed, "order", *keys))


def batch_indices(count: int, batch: int, seed: int, step: int) -> torch.Tensor:
    """The images of one training step: consecutive slices of endless shuffled epochs.

    Depends on ``(seed, step)`` only, so a resumed run sees exactly the images that it would have.
    """
    positions = torch.arange(step * batch, (step + 1) * batch)
    epochs = positions // count
    orders = {int(e): epoch_order(count, seed, int(e)) for e in epochs.unique()}
    pairs = zip(epochs.tolist(), positions.tolist(), strict=True)
    return torch.stack([orders[e][p % count] for e, p in pairs])


def shared_noise(
    shape: Sequence[int], seed: int, level: float, draw: int, device: torch.device
) -> torch.Tensor:
    """The one noise that all images get at a level and draw: (1, *shape)."""
    owner = generator(seed, "shared noise", f"{level:.6f}", draw)
    return torch.randn((1, *shape), generator=owner).to(device)


def halves(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the half to train on and of the held-out half, both sorted."""
    mixed = torch.randperm(count, generator=generator(seed, "classifier split")).numpy()
    return np.sort(mixed[: count // 2]), np.sort(mixed[count // 2 :])
