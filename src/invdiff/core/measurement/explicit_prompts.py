"""Prompts that name what an attribute should be: they must keep it, not balance it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

SAME = (
    ("female", "woman", "women", "girl", "girls"),
    ("male", "man", "men", "boy", "boys"),
)
"""Words for one class: a prompt says ``a woman`` where a classifier says ``female``."""


def named_class(prompt: str, classes: Sequence[str]) -> str | None:
    """The one class that the prompt names as whole words, in any case; None for none or several.

    A class is named by its name and by the words that mean the same (:data:`SAME`). A name that is
    part of another word (``male`` in ``female``) is not found inside it.
    """
    found = [name for name in classes if _pattern(name).search(prompt)]
    return found[0] if len(found) == 1 else None


@cache
def _pattern(name: str) -> re.Pattern[str]:
    """The words that name a class."""
    same = next((known for known in SAME if name.lower() in known), ())
    every = "|".join(map(re.escape, {name, *same}))
    return re.compile(rf"(?<!\w)(?:{every})(?!\w)", re.IGNORECASE)


def named_prompts(prompts: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    """The class of each prompt that names one, in their order; the others are left out."""
    found = {prompt: named_class(prompt, classes) for prompt in prompts}
    return {prompt: name for prompt, name in found.items() if name is not None}


def showing(
    prompts: Sequence[str], labels: Sequence[str], named: Mapping[str, str]
) -> tuple[int, int]:
    """Of the pictures (prompt and estimated class) whose prompt names a class: how many show it.

    Returns that number and how many there are. A picture in no class does not show it.
    """
    rows = [(named[p], label) for p, label in zip(prompts, labels, strict=True) if p in named]
    return sum(wanted == label for wanted, label in rows), len(rows)


def keeping(
    prompts: Sequence[str], first: Sequence[str], second: Sequence[str], named: Mapping[str, str]
) -> tuple[int, int]:
    """Of the pairs whose first picture shows the named class: how many second ones do as well.

    Returns that number and how many first pictures show it; a pair has one prompt and one seed.
    """
    rows = zip(prompts, first, second, strict=True)
    shown = [(p, after) for p, before, after in rows if p in named and before == named[p]]
    return showing([p for p, _ in shown], [after for _, after in shown], named)
