"""Which model a run works on, and how a worker process gets it."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from invdiff.data.sets import builtin
from invdiff.engine.base_model.architecture import model_folder, way_to
from invdiff.engine.base_model.cache_keys import fingerprint
from invdiff.engine.base_model.conditions import InMemory, OnDisk, Store
from invdiff.engine.base_model.offloading import GROUPS, Group, Offloading
from invdiff.engine.base_model.single_file import load_file
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.errors import ModelError, refused
from invdiff.model.denoiser import Denoiser, denoiser_module
from invdiff.model.families.registry import from_pipeline
from invdiff.model.sizing import shapes
from invdiff.model.sizing.description import missing_parts, of_folder, require_libraries, variant_of
from invdiff.model.sizing.single_file import WAY_OUT, is_single


@dataclass(frozen=True)
class ModelRef:
    """Enough to load the model again in another process."""

    path: str
    device: str
    dtype: str
    attention: str = "auto"
    conditions: str = ""
    """Folder that keeps conditions of prompts; empty keeps them in memory."""


WAYS_OUT = (
    f"give a built-in name ({', '.join(EMBEDDED_SETS)}), a folder in diffusers format, a "
    "checkpoint in one file or a hub id"
)
Source = ModelRef | Denoiser
"""A worker gets a reference; within one process the loaded denoiser itself will do."""


def device_of(requested: str) -> str:
    """The device to compute on: ``auto`` takes a GPU if there is one.

    Raises:
        ModelError: this computer has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if requested == "auto":
        return next((name for name, found in there.items() if found), "cpu")
    if not there.get(requested, True):
        raise ModelError(f"model.device is {requested!r}, which torch does not find here: use auto")
    return requested


def resolve(source: Source) -> Denoiser:
    """The denoiser behind a source; a process loads each reference once."""
    return _load(source) if isinstance(source, ModelRef) else source


@lru_cache(maxsize=1)
def _load(ref: ModelRef) -> Denoiser:
    return Offloading(partial(_load_group, ref), store_of(ref))


def store_of(ref: ModelRef) -> Store:
    """Where conditions of prompts of a model are kept."""
    if not ref.conditions:
        return InMemory()
    return OnDisk(Path(ref.conditions), f"{weights_of(ref, 'prompts')} {ref.dtype}")


def _load_group(ref: ModelRef, group: Group | None) -> Denoiser:
    """The model with the networks of one group; what the others are is known, not their weights."""
    absent = [name for other in GROUPS if other != group for name in GROUPS[other]]
    pipeline = load_pipeline(ref, absent)
    with refused(f"cannot use model.path {ref.path!r}", WAYS_OUT):
        denoiser = from_pipeline(pipeline)
    for name in absent:
        if name in pipeline.config:
            setattr(pipeline, name, None)
    return denoiser


def weights_of(ref: ModelRef, *groups: Group) -> str:
    """What names the weights of these groups: other weights under the same path are told apart."""
    place = Path(ref.path).expanduser()
    if is_single(ref.path):
        return fingerprint(place, [])
    folder = model_folder(ref.path)
    names = [name for group in groups for name in GROUPS[group]]
    return fingerprint(folder, names) if folder else ref.path


def load_pipeline(ref: ModelRef, absent: Collection[str] = ()) -> Any:
    """The stock pipeline at ``ref.path``: built-in name, local folder or file, or hub id.

    Networks named in ``absent`` are on the meta device: their settings without their weights.

    Raises:
        ModelError: nothing loadable there; the message carries the library's reason.
        DataError: a built-in model that was not built yet.
    """
    place = Path(ref.path).expanduser()
    if ref.path in EMBEDDED_SETS:
        place = builtin.require_built(ref.path) / "base"
    cannot, way_out = f"cannot load model.path {ref.path!r}", "give a whole copy of the model"
    if is_single(ref.path):
        way_out = WAY_OUT
    elif place.is_dir():
        if lost := missing_parts(place):
            raise ModelError(f"{cannot}: it lacks files of {', '.join(lost)}, {way_out}")
        require_libraries(place)
        of_folder(place, ref.path).require_latents()
    elif not (way_out := way_to(ref.path)).startswith("hf "):
        raise ModelError(f"model.path {ref.path} is no folder: {way_out}")
    with refused(cannot, way_out), hushed():
        if is_single(ref.path):
            pipeline = load_file(place, ref.dtype, absent)
        else:
            pipeline = _stock(str(place) if place.is_dir() else ref.path, ref.dtype, absent)
        pipeline.set_progress_bar_config(disable=True)
        for name, part in pipeline.components.items():
            if isinstance(part, torch.nn.Module) and name not in absent:
                part.to(ref.device)
    if not set(GROUPS["denoiser"]) & set(absent):
        _set_attention(pipeline, ref.attention)
    return pipeline


def _set_attention(pipeline: Any, name: str) -> None:
    """Let the denoiser compute attention in the way ``name``; "auto" leaves it as it is.

    Raises:
        ModelError: the library behind it is not installed, or the network does not take it.
    """
    if name == "auto":
        return
    denoiser: Any = denoiser_module(pipeline)
    with refused(f'model.attention = "{name}" does not work here', 'use "auto"'), hushed():
        denoiser.set_attention_backend(name)  # refuses what is not installed
        # Of a UNet the attention layers don't read what they are set to.
        layers = (getattr(module, "processor", None) for module in denoiser.modules())
        if name != "native" and not any(hasattr(one, "_attention_backend") for one in layers):
            getattr(denoiser, f"enable_{name}_memory_efficient_attention")()


def _stock(place: str, dtype: str, absent: Collection[str]) -> Any:
    from diffusers import DiffusionPipeline

    if not Path(place).is_dir():
        place = DiffusionPipeline.download(place)  # under the hub's own progress bars
    parts = of_folder(Path(place)).parts
    ready: dict[str, Any] = {name: shapes.build(parts[name]) for name in absent if name in parts}
    for path in sorted(Path(place).rglob("*.safetensors")) if ready else ():
        with refused(f"{path} is damaged", "give a whole copy of the model"), safe_open(path, "pt"):
            pass  # one that was cut off is told of now, not after hours of work
    variants = {name: variant_of(Path(place, name)) for name in parts}
    known = {"dtype": getattr(torch, dtype), "variant": next(filter(None, variants.values()), None)}
    with hushed(bars=False):
        for name in set(GROUPS["prompts"]) & set(parts) - set(absent):
            settings = known | {"variant": variants[name]}
            ready[name] = _whole_encoder(Path(place, name), parts[name].kind, settings)
        return DiffusionPipeline.from_pretrained(place, **known, **ready)


def _whole_encoder(folder: Path, kind: str, settings: Mapping[str, Any]) -> Any:
    """A text encoder with all its weights: what its files lack would be filled in at random."""
    import transformers

    loader = getattr(transformers, kind)
    found, info = loader.from_pretrained(folder, output_loading_info=True, **settings)
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{folder} has no weights for {len(missing)} parts of {kind}, first {missing[0]}: give "
            "a whole copy of the model"
        )
    return found


@contextmanager
def hushed(bars: bool = True) -> Iterator[None]:
    """Errors only from diffusers and transformers; their remarks are for who wrote the import.

    Without ``bars`` no progress bars of theirs either: a model on the disk loads in seconds.
    """
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    with ExitStack() as afterwards:
        for library in (diffusers, transformers):
            afterwards.callback(library.set_verbosity, library.get_verbosity())
            library.set_verbosity_error()
            if not bars and library.is_progress_bar_enabled():
                afterwards.callback(library.enable_progress_bar)
                library.disable_progress_bar()
        yield


def require_finite(values: torch.Tensor, what: str, denoiser: Denoiser) -> torch.Tensor:
    """``values`` as they are; ModelError if one of them is no finite number."""
    if bool(torch.isfinite(values).all()):
        return values
    dtype = str(denoiser.module.dtype).removeprefix("torch.")
    way_out = (
        "the weights at model.path are damaged, or made for another model: give a whole copy"
        if dtype == "float32"
        else f'{dtype} is too narrow for this model: set model.dtype = "float32"'
    )
    raise ModelError(f"{what} are not finite numbers (NaN or infinite): {way_out}")
