"""Tensors on the disk that say what they were made from and whether they are what was written.

The header of each file holds ``about`` (model, settings, data) and a SHA-256 of the tensors, as one
JSON value: safetensors writes several in any order, and equal contents are to be equal bytes.
A file that was altered, or that is about something else, is as good as none: it is made again.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from invdiff.engine.storage.files import write_with

Tensors = dict[str, torch.Tensor]
About = Mapping[str, Any]
SEAL = "invdiff"


def write_hashed(path: Path, tensors: Tensors, about: About) -> None:
    """Write the file whole or not at all."""
    header = {SEAL: canonical({"about": about, "sha256": digest_of_tensors(tensors)})}
    write_with(path, partial(save_file, tensors, metadata=header))


def read_hashed(path: Path, about: About) -> Tensors | None:
    """The tensors, or None: there is no file, it is damaged, altered, or about something else."""
    try:
        with safe_open(path, "pt") as file:
            seal = json.loads((file.metadata() or {}).get(SEAL, "{}"))
            if canonical(seal.get("about", {})) != canonical(about):
                return None
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError):
        return None
    return tensors if seal.get("sha256") == digest_of_tensors(tensors) else None


def read_about(path: Path) -> dict[str, Any] | None:
    """What a file says it is about; None if it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[SEAL])["about"]
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    return about


def digest_of_tensors(tensors: Tensors) -> str:
    """SHA-256 of names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def canonical(about: About) -> str:
    """One text for equal values."""
    return json.dumps(about, sort_keys=True, ensure_ascii=False)


def short_name(about: About) -> str:
    """12 hexadecimal digits for equal values, to name a folder with."""
    return hashlib.sha256(canonical(about).encode()).hexdigest()[:12]
