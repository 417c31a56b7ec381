"""Other mixes of the cartoon faces, made of the embedded pictures and 2,470 further ones.

The balanced split is that of the embedded faces. How many pictures of which kind a training split
has is a table by prompt, gender and race; pictures are taken in their stored order, so the sets
share many of them. In one set a part of the embedded pictures has a caption that names the gender:
a tool that balances "a person wearing a hat" must leave "a woman wearing a hat" as it is.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from invdiff.data.sets.builtin import require_built
from invdiff.data.sets.stored import DrawnSplit, Split, StoredSet, open_set
from invdiff.errors import DataError

GENDERS = ("female", "male")
RACES = ("asian", "black", "brown", "white")
PROMPTS = (
    "a person",
    "a person wearing a hat",
    "a person wearing a headband",
    "a person wearing glasses",
)
SKEW = (3, 2, 1, 1)
NOUNS = {"female": "a woman", "male": "a man"}
NAMED = 0.3
"""Share of the pictures whose caption names the gender."""
SEED = 20
"""Owns which pictures these are."""

Mix = Mapping[tuple[str, str, str], int]
"""Pictures by prompt, gender and race."""

BALANCED: Mix = {key: 175 for key in product(PROMPTS, GENDERS, RACES)}
MARGINAL: Mix = {
    (prompt, gender, race): 315 if gender == "male" else 35
    for prompt, gender, race in product(PROMPTS, GENDERS, RACES)
}
RACE: Mix = {
    (prompt, gender, RACES[(turn + place) % 4]): 100 * share
    for turn, prompt in enumerate(PROMPTS)
    for gender in GENDERS
    for place, share in enumerate(SKEW)
}
"""3 : 2 : 1 : 1, the most frequent race another one for each prompt, genders even."""


def draw(mix: Mix) -> dict[Split, DrawnSplit]:
    """A training split of ``mix`` and the embedded balanced split."""
    faces = open_set("faces")
    pools = [whole(faces, "train"), whole(StoredSet(require_built("faces") / "more"), "train")]
    pictures, prompts, attributes = (
        np.concatenate([pool.pictures for pool in pools]),
        [text for pool in pools for text in pool.prompts],
        {
            name: [v for pool in pools for v in pool.attributes[name]]
            for name in pools[0].attributes
        },
    )
    kinds = zip(prompts, attributes["gender"], attributes["race"], strict=True)
    rows = picked_rows(list(kinds), mix)
    return {
        "train": DrawnSplit(
            pictures[rows],
            [prompts[row] for row in rows],
            {name: [values[row] for row in rows] for name, values in attributes.items()},
        ),
        "balanced": whole(faces, "balanced"),
    }


def picked_rows(kinds: list[tuple[str, str, str]], mix: Mix) -> list[int]:
    """The first rows of each kind, as many as ``mix`` says; DataError if there are too few."""
    left = dict(mix)
    rows = []
    for row, kind in enumerate(kinds):
        if left.get(kind, 0):
            left[kind] -= 1
            rows.append(row)
    if lacking := {kind: count for kind, count in left.items() if count}:
        kind, count = next(iter(lacking.items()))
        raise DataError(f"{count} faces are lacking of the kind {', '.join(kind)}")
    return rows


def whole(stored: StoredSet, split: Split) -> DrawnSplit:
    """A split as it is stored."""
    return DrawnSplit(stored.pictures(split), stored.prompts(split), stored.attributes(split))


def draw_named() -> dict[Split, DrawnSplit]:
    """The splits of ``faces``, a part of the training split with explicit captions.

    So that the base model knows both, the pictures and the skew are those of ``faces``, and of
    every prompt and gender the same share has the explicit caption: the plain captions keep their
    shares of the genders.
    """
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
            captions[row] = prompts[row].replace("a person", NOUNS[genders[row]], 1)
    return captions
