"""The configuration of a model by name, without its weights: embedded, on the disk, or in the cache."""

from pathlib import Path

from invdiff.engine.sections import EMBEDDED_SETS
from invdiff.model import description
from invdiff.model.description import INDEX, Description


def folder_of(model: str) -> Path | None:
    """The folder that holds ``model`` on this computer; None when it would have to be downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.utils import HFValidationError

    from invdiff.engine.models import embedded

    place = embedded(model) if model in EMBEDDED_SETS else Path(model).expanduser()
    if place.is_dir():
        return place
    try:
        cached = try_to_load_from_cache(model, INDEX)
    except HFValidationError:  # a path that does not exist
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def describe(model: str) -> Description | None:
    """What ``model`` is made of; None when it is not on this computer."""
    folder = folder_of(model)
    return None if folder is None else description.of_folder(folder, model)
