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
PREFIX = "builtin:"


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
    "faces-several": BuiltIn(4, 2000, "gender"),
    "scenes": BuiltIn(4, 2000, "background"),
    "digits": BuiltIn(10, 800, "background"),
}


def resolve_name(path: str | Path, what: str = "") -> str:
    """What a name that a user gave means: a set's bare name, or a place on the disk.

    Names are resolved once, where they come in; the settings of a run hold what they mean. A Path
    is a place. Raises DataError, which names ``what`` was given, for a name that is a set and a
    folder at once, and for a set that there is not.
    """
    text = str(path)
    name = text.removeprefix(PREFIX)
    if isinstance(path, Path):
        return f"./{text}" if text in SETS else text
    if text.startswith(PREFIX) and name not in SETS:
        raise DataError(
            f"{what} {text}: there is no such set; there are: {', '.join(SETS)}".strip()
        )
    if text in SETS and Path(text).is_dir():
        raise DataError(
            f"{what} {text} is a built-in set and a folder here: give {PREFIX}{text} for the set, "
            f"./{text} for the folder".strip()
        )
    return name


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
