"""The table of samples: a stable id, a prompt and a picture for each."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Samples:
    """Captioned pictures that passed the checks, in the order of their source.

    `pictures(indices)` returns RGB pictures of shape (len(indices), size, size, 3), uint8 0..255.
    `quarantined` names what was left out: (where, reason). Attributes are not part of a sample:
    `sources.read_labels` is the only way to them.
    """

    sample_id: tuple[str, ...]
    prompt: tuple[str, ...]
    pictures: Callable[[Sequence[int]], Pictures]
    quarantined: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        assert len(self.sample_id) == len(self.prompt), "one prompt for each sample"

    def __len__(self) -> int:
        return len(self.sample_id)

    def prompts(self) -> tuple[str, ...]:
        """The distinct prompts, sorted."""
        return tuple(sorted(set(self.prompt)))


def sample_id(content: bytes, prompt: str) -> str:
    """16 hexadecimal digits that name a picture with its prompt, wherever it is stored.

    `content` is the picture file as stored, or the pixels of a picture that has no file. It is
    hashed first, so that no other split into picture and prompt gives the same id.
    """
    picture = hashlib.sha256(content).digest()
    return hashlib.sha256(picture + prompt.encode()).hexdigest()[:16]


def clean_prompt(text: str) -> str:
    """One line without surplus white space: captions that only differ there are the same prompt."""
    return " ".join(text.split())
