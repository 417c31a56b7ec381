"""Prompts that name what an attribute should be: they must keep it, not balance it."""

import re
from collections.abc import Sequence


def named_class(prompt: str, classes: Sequence[str]) -> str | None:
    """The one class that the prompt names as whole words, in any case; None for none or several.

    A class whose name is part of another's (``male``, ``female``) is not found inside it.
    """
    found = [
        name for name in classes if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", prompt, re.I)
    ]
    return found[0] if len(found) == 1 else None
