"""Checkpoints that survive a kill at any moment.

A checkpoint is staged in a hidden folder, sealed with a manifest that is written last, flushed to
the disk and renamed into place; older ones are pruned only after that. Two are kept, so that damage
to the newest costs one interval. Tensors are safetensors, numbers JSON: nothing is pickled.
:func:`newest` believes a folder only if its manifest matches.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from invdiff.engine.storage.files import give_default_mode
from invdiff.errors import InvDiffWarning

MANIFEST = "manifest.json"
GROUP, NUMBER = "group", ":number"


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


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Write checkpoint ``step`` below ``folder`` and keep the newest ``keep`` of them."""
    final = folder / f"step-{step:07d}"
    stage = folder / f".stage-{step:07d}-{os.getpid()}"
    for left in folder.glob(".stage-*"):  # of a process that was killed while it saved
        shutil.rmtree(left, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(contiguous, stage / "tensors.safetensors")
        (stage / "facts.json").write_text(json.dumps({"step": step, **facts}))
        files = {path.name: _digest(path) for path in stage.iterdir()}
        (stage / MANIFEST).write_text(json.dumps(files))
        give_default_mode(stage)
        for path in [*stage.iterdir(), stage]:
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(stage, final)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    _flush(folder)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def is_valid(checkpoint: Path) -> bool:
    """Whether every file that the manifest names is there and unchanged."""
    try:
        files = dict(json.loads((checkpoint / MANIFEST).read_text()))
        same = [_digest(checkpoint / name) == digest for name, digest in files.items()]
        return len(same) == 2 and all(same)  # the tensors and the facts
    except (OSError, ValueError, TypeError):
        return False


def newest(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Tensors and facts of the newest valid checkpoint below ``folder``, or None.

    Says with a warning which newer ones it had to pass over.
    """
    folders = sorted(folder.glob("step-*"), reverse=True)
    valid = next(filter(is_valid, folders), None)
    if damaged := ", ".join(map(str, folders[: folders.index(valid) if valid else None])):
        what_now = f"going on from {valid.name}" if valid else "beginning again"
        warnings.warn(f"damaged: {damaged}; {what_now}", InvDiffWarning, stacklevel=2)
    if valid is None:
        return None
    facts = json.loads((valid / "facts.json").read_text())
    return load_file(valid / "tensors.safetensors"), facts


def pack(**parts: torch.nn.Module | torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The tensors of modules and optimisers, each under the name of its part.

    What an optimiser keeps as a number, for a parameter or for all of them (Prodigy's estimate of
    the distance), is stored as a tensor of 64 bits and comes back as the number that it was.
    """
    tensors: dict[str, torch.Tensor] = {}
    for part, holder in parts.items():
        if isinstance(holder, torch.nn.Module):
            tensors |= {f"{part}/{k}": v.clone() for k, v in holder.state_dict().items()}
            continue
        held = holder.state_dict()
        tensors |= _leaves(held["state"], f"{part}/")
        for index, group in enumerate(held["param_groups"]):
            numbers = {k: v for k, v in group.items() if k != "params"}
            tensors |= _leaves(numbers, f"{part}/{GROUP}/{index}/")
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
        tree = _tree(own)
        groups = tree.pop(GROUP, {})
        held = holder.state_dict()
        for index, group in enumerate(held["param_groups"]):
            group |= groups.get(str(index), {})
        state = {int(index): entry for index, entry in tree.items()}
        holder.load_state_dict({"param_groups": held["param_groups"], "state": state})


def _leaves(tree: Mapping[Any, Any], prefix: str) -> dict[str, torch.Tensor]:
    """Tensors and numbers of nested mappings, by their path."""
    found: dict[str, torch.Tensor] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}{key}/")
        elif isinstance(value, torch.Tensor):
            found[f"{prefix}{key}"] = value.clone()
        elif isinstance(value, int | float) and not isinstance(value, bool):
            kind = torch.int64 if isinstance(value, int) else torch.float64
            found[f"{prefix}{key}{NUMBER}"] = torch.tensor(value, dtype=kind)
    return found


def _tree(leaves: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The nested mappings that :func:`_leaves` took apart."""
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        *branches, key = path.split("/")
        holder = tree
        for branch in branches:
            holder = holder.setdefault(branch, {})
        number = key.endswith(NUMBER)
        holder[key.removesuffix(NUMBER)] = value.item() if number else value
    return tree
