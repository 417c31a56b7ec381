"""The configuration of a model by name, without its weights.

It is taken from the first of: the built-in model, a folder, the hub's cache on this computer, and,
for models that people use most, the values of their published config.json, which come along with
InvDiff in ``assets/architectures``.
"""

import json
from difflib import get_close_matches
from pathlib import Path

from invdiff.data.sets import builtin
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.model.sizing import description
from invdiff.model.sizing.description import ARCHITECTURES, INDEX, Description, shipped
from invdiff.model.sizing.single_file import describe_file, is_single

VARIANTS = ("refiner", "inpaint", "edit", "layered")  # other networks under names that begin alike


def model_folder(model: str) -> Path | None:
    """The folder that holds ``model`` on this computer; None if it would have to be downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.utils import HFValidationError

    built_in = model in EMBEDDED_SETS
    place = builtin.set_folder(model) / "base" if built_in else Path(model).expanduser()
    if place.is_dir():
        return place
    try:
        cached = try_to_load_from_cache(model, INDEX)
    except HFValidationError:  # a path that does not exist
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def way_to(model: str) -> str:
    """What to do about a model that is not on this computer."""
    if model in EMBEDDED_SETS:
        return f"invdiff data build {model}"
    if near := get_close_matches(model, EMBEDDED_SETS, 1):
        return f"did you mean {near[0]!r}?"
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        return "give --model.path a diffusers folder"
    return f"hf download {model}, or give --model.path a diffusers folder"


def describe(model: str) -> Description | None:
    """What ``model`` is made of; None when it is not on this computer.

    Raises:
        ModelError: it is no model, or not one that draws from a prompt alone.
    """
    if is_single(model):
        return describe_file(Path(model).expanduser())
    folder = model_folder(model)
    if folder is None:
        return None
    found = description.of_folder(folder, model)
    found.require_latents()
    return found


def published(model: str) -> Description | None:
    """What ``model`` is made of by its published configuration, if its name says what it is."""
    if any(variant in model.lower() for variant in VARIANTS):
        return None
    for entry in ARCHITECTURES.iterdir():
        facts = json.loads(entry.read_text(encoding="utf-8"))
        if any(name in model.lower() for name in facts["match"]):
            return shipped(entry.name.removesuffix(".json"))
    return None
