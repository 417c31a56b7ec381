"""Checkpoints that survive a kill at any moment.

A checkpoint is staged in a hidden folder, sealed with a manifest that is written last, flushed to
the disk and renamed into place; older ones are pruned only after that. Tensors are safetensors,
numbers JSON: nothing is pickled. :func:`newest` believes a folder only if its manifest matches.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

MANIFEST = "manifest.json"


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Force a file or a folder onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
    keep: int = 1,
) -> Path:
    """Write checkpoint ``step`` below ``folder`` and keep the newest ``keep`` of them."""
    final = folder / f"step-{step:07d}"
    stage = folder / f".stage-{step:07d}-{os.getpid()}"
    stage.mkdir(parents=True)
    try:
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(contiguous, stage / "tensors.safetensors")
        (stage / "facts.json").write_text(json.dumps({"step": step, **facts}))
        files = {path.name: _digest(path) for path in stage.iterdir()}
        (stage / MANIFEST).write_text(json.dumps(files))
        for path in [*stage.iterdir(), stage]:
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(stage, final)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    _flush(folder)
    _prune(folder, keep)
    return final


def _prune(folder: Path, keep: int) -> None:
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def is_valid(checkpoint: Path) -> bool:
    """Whether every file that the manifest names is there and unchanged."""
    try:
        files = dict(json.loads((checkpoint / MANIFEST).read_text()))
        same = [_digest(checkpoint / name) == digest for name, digest in files.items()]
        return len(same) == 2 and all(same)  # the tensors and the facts
    except (OSError, ValueError, TypeError):
        return False


def newest(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Tensors and facts of the newest valid checkpoint below ``folder``, or None."""
    for checkpoint in sorted(folder.glob("step-*"), reverse=True):
        if is_valid(checkpoint):
            facts = json.loads((checkpoint / "facts.json").read_text())
            return load_file(checkpoint / "tensors.safetensors"), facts
    return None


def pack(**parts: torch.nn.Module | torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The tensors of modules and optimisers, each under the name of its part."""
    tensors: dict[str, torch.Tensor] = {}
    for part, holder in parts.items():
        if isinstance(holder, torch.nn.Module):
            tensors |= {f"{part}/{k}": v.clone() for k, v in holder.state_dict().items()}
            continue
        for index, state in holder.state_dict()["state"].items():
            tensors |= {f"{part}/{index}/{k}": torch.as_tensor(v).clone() for k, v in state.items()}
    return tensors


def unpack(
    tensors: Mapping[str, torch.Tensor], **parts: torch.nn.Module | torch.optim.Optimizer
) -> None:
    """Put back what :func:`pack` took; the optimisers must hold the same parameters."""
    for part, holder in parts.items():
        own = {
            k.removeprefix(f"{part}/"): v for k, v in tensors.items() if k.startswith(f"{part}/")
        }
        if isinstance(holder, torch.nn.Module):
            holder.load_state_dict(own)
            continue
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in own.items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = value
        holder.load_state_dict({**holder.state_dict(), "state": state})
