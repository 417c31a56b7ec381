"""The table of samples: a stable id, a prompt and a picture for each."""

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Samples:
    """Captioned pictures that passed the checks, in the order of their source.

    `prompt` is what a picture is compared within, `caption` its own text, which it is scored and
    trained under; they are the same unless prompts were grouped (`data.prompt_groups`). `name` says
    where each is in its source: below the folder, or in which file and row.
    `pictures(indices)` returns RGB pictures of shape (len(indices), size, size, 3), uint8 0..255.
    `quarantined` names what was left out: (where, reason). Attributes are not part of a sample:
    `sources.read_labels` is the only way to them.
    """

    sample_id: tuple[str, ...]
    prompt: tuple[str, ...]
    pictures: Callable[[Sequence[int]], Pictures]
    quarantined: tuple[tuple[str, str], ...] = ()
    caption: tuple[str, ...] = ()
    name: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.caption:
            object.__setattr__(self, "caption", self.prompt)
        counts = {len(self.sample_id), len(self.prompt), len(self.caption)}
        assert len(counts) == 1, "one prompt and one caption for each sample"

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


def picture_id(content: bytes) -> str:
    """16 hexadecimal digits that name a picture without its prompt."""
    return hashlib.sha256(content).hexdigest()[:16]


def pick_caption(captions: Sequence[str], content: bytes) -> str:
    """The caption of a picture that has several, "" when it has none.

    The picture's own bytes decide, so that the same picture keeps its caption, and with it its
    id, wherever it is stored and whatever the seed is.
    """
    known = [text for text in captions if text]
    if len(known) < 2:
        return known[0] if known else ""
    return known[int(picture_id(content), 16) % len(known)]


def plural(amount: int, noun: str) -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")


def clean_prompt(text: str) -> str:
    """One line without surplus white space, in NFC: captions that only differ there are one prompt.

    An accented letter is one character or two, as the writer's system has it; nobody sees which.
    """
    return " ".join(unicodedata.normalize("NFC", text).split())
