"""Which model a run works on, and how a worker process gets it."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from invdiff.engine.run import RunFolder
from invdiff.engine.sections import EMBEDDED_SETS
from invdiff.errors import ModelError
from invdiff.model.denoiser import Denoiser, from_pipeline


@dataclass(frozen=True)
class ModelRef:
    """Enough to load the model again in another process."""

    path: str
    device: str
    dtype: str


Source = ModelRef | Denoiser
"""A worker gets a reference; within one process the loaded denoiser itself will do."""


def device_of(requested: str) -> str:
    """The device to compute on: ``auto`` takes a GPU if there is one."""
    if requested != "auto":
        return requested
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def source_of(run: RunFolder) -> Source:
    """The model of a run: the pipeline it was given, or a reference from its settings."""
    if run.pipeline is not None:
        return from_pipeline(run.pipeline)
    section = run.config.model
    return ModelRef(section.path, device_of(section.device), section.dtype)


def resolve(source: Source) -> Denoiser:
    """The denoiser behind a source; a process loads each reference once."""
    return _load(source) if isinstance(source, ModelRef) else source


@lru_cache(maxsize=1)
def _load(ref: ModelRef) -> Denoiser:
    return from_pipeline(load_pipeline(ref))


def load_pipeline(ref: ModelRef) -> Any:
    """The stock pipeline at ``ref.path``: embedded name, local folder or hub id.

    Raises:
        ModelError: nothing loadable there; the message carries diffusers' reason.
    """
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    path = embedded(ref.path) if ref.path in EMBEDDED_SETS else ref.path
    if str(path).startswith((".", "/", "~")) and not Path(path).expanduser().is_dir():
        raise ModelError(f"model.path {ref.path} is no folder: give a diffusers folder or a hub id")
    try:
        pipeline = DiffusionPipeline.from_pretrained(path, dtype=getattr(torch, ref.dtype))
    except (OSError, ValueError, EnvironmentError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"cannot load model.path {ref.path!r} ({reason}): give an embedded name "
            f"({', '.join(EMBEDDED_SETS)}), a folder in diffusers format or a hub id"
        ) from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(ref.device)


def embedded(name: str) -> Path:
    """The folder of the embedded base model ``name``."""
    return Path(str(files("invdiff") / "assets" / name / "base"))
