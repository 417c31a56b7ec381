"""The embedded faces, of which a part has a caption that names the gender.

A tool that balances "a person wearing a hat" must leave "a woman wearing a hat" as it is. So that
the base model knows both, the pictures and the skew are those of ``faces``, and of every prompt and
gender the same share has the explicit caption: the plain captions keep their shares of the genders.
"""

from collections.abc import Sequence

import numpy as np

from invdiff.data.sets.drawn.more_faces import whole
from invdiff.data.sets.stored import DrawnSplit, Split, open_set

NOUNS = {"female": "a woman", "male": "a man"}
NAMED = 0.3
SEED = 20
"""Owns which pictures have the explicit caption."""


def draw() -> dict[Split, DrawnSplit]:
    """The splits of ``faces``, a part of the training split with explicit captions."""
    faces = open_set("faces")
    train = whole(faces, "train")
    prompts = explicit(train.prompts, train.attributes["gender"])
    return {
        "train": DrawnSplit(train.pictures, prompts, train.attributes),
        "balanced": whole(faces, "balanced"),
    }


def explicit(
    prompts: Sequence[str], genders: Sequence[str], share: float = NAMED, seed: int = SEED
) -> list[str]:
    """The captions, ``share`` of those of each prompt and gender with the gender named in it.

    How many that is is exact; which pictures they are is drawn at random.
    """
    captions = list(prompts)
    cells = np.array(
        [f"{prompt}/{gender}" for prompt, gender in zip(prompts, genders, strict=True)]
    )
    owner = np.random.default_rng(seed)
    for cell in np.unique(cells):
        rows = np.flatnonzero(cells == cell)
        for row in owner.permutation(rows)[: round(share * len(rows))]:
            captions[row] = name_it(prompts[row], genders[row])
    return captions


def name_it(prompt: str, gender: str) -> str:
    """The explicit caption, as ``a woman wearing a hat`` for ``a person wearing a hat``."""
    return prompt.replace("a person", NOUNS[gender], 1)
