"""The built-in sets by name: what is known of them without opening them, and where they are.

A set is a folder: the two splits (see :mod:`invdiff.data.sets.stored`), ``base/`` with the model
that was trained on the biased one, ``base_recipe.json`` and ``classifier.safetensors``. The folder
of an embedded set comes with the package; the others are made by ``invdiff data build``.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from invdiff.errors import DataError

HOME = "INVDIFF_SETS"


@dataclass(frozen=True)
class BuiltIn:
    """Number of prompts, training pictures of each (the mean), the attribute to be measured."""

    prompts: int
    pictures: int
    attribute: str
    embedded: bool = False


SETS: Mapping[str, BuiltIn] = {
    "faces": BuiltIn(4, 2000, "gender", embedded=True),
    "faces-balanced": BuiltIn(4, 1400, "gender"),
    "faces-marginal": BuiltIn(4, 1400, "gender"),
    "faces-named": BuiltIn(12, 667, "gender"),
    "faces-race": BuiltIn(4, 1400, "race"),
    "scenes": BuiltIn(4, 2000, "background"),
    "digits": BuiltIn(10, 800, "background"),
}


def home() -> Path:
    """Where built sets are kept: ``$INVDIFF_SETS``, or the user's cache folder."""
    if os.environ.get(HOME):
        return Path(os.environ[HOME]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "invdiff" / "sets"


def set_folder(name: str) -> Path:
    """The folder of the set ``name``, which need not be there."""
    if SETS[name].embedded:
        return Path(str(files("invdiff") / "assets" / name))
    return home() / name


def require_built(name: str) -> Path:
    """The folder of the set ``name``; DataError if the set was not built yet."""
    folder = set_folder(name)
    if not folder.is_dir():
        raise DataError(
            f"the set {name} is not in {folder.parent}: make it with `invdiff data build {name}`, "
            f"or set {HOME} to the folder that it was built in"
        )
    return folder
