"""Tensors on the disk that say what they were made from and whether they are what was written.

The header of each file holds ``about`` (model, settings, data) and a SHA-256 of the tensors, as one
JSON value: safetensors writes several in any order, and equal contents are to be equal bytes.
A file that was altered, or that is about something else, is as good as none: it is made again.
Work in shards is kept this way, so that an interrupted pass goes on. What such work depends on is
named here too: weights, texts, rows.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.storage.files import canonical, write_with

Tensors = dict[str, torch.Tensor]
About = Mapping[str, Any]
SEAL = "invdiff"
SHARD = 256  # rows


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


def short_name(about: About) -> str:
    """12 hexadecimal digits for equal values, to name a folder with."""
    return hashlib.sha256(canonical(about).encode()).hexdigest()[:12]


def cached(
    work: Callable[[Any], Tensors],
    shards: Sequence[Any],
    cache: Path,
    name: str,
    about: About,
    *,
    processes: int,
    title: str,
    load: Callable[[Any], Any] | None = None,
) -> Tensors:
    """The concatenated results of ``work`` over ``shards``, each kept as ``name-<k>``.

    They are in a folder of ``cache`` that is named for ``about``, which must say everything that
    the results depend on and stands in each file. A file that is about something else, was altered
    or cannot be read is made again. ``load`` gives what ``work`` takes for a shard; it is asked
    for missing ones alone.
    """
    folder = cache / short_name(about)
    files = [folder / f"{name}-{index:05d}.safetensors" for index in range(len(shards))]
    abouts = [{**about, "shard": f"{name} {index}"} for index in range(len(shards))]
    kept = map(read_hashed, files, abouts)
    results = {index: found for index, found in enumerate(kept) if found is not None}
    left = [index for index in range(len(shards)) if index not in results]
    if left:
        for (index, _), tensors in run_shards(
            partial(_numbered, work),
            ((index, load(shards[index]) if load else shards[index]) for index in left),
            count=len(left),
            processes=processes,
            title=title,
            done=len(results),
        ):
            write_hashed(files[index], tensors, abouts[index])
            results[index] = tensors
    return {key: torch.cat([results[i][key] for i in range(len(shards))]) for key in results[0]}


def _numbered(work: Callable[[Any], Tensors], shard: tuple[int, Any]) -> Tensors:
    """``work`` for a shard that carries its number."""
    return {key: value.contiguous() for key, value in work(shard[1]).items()}


def row_parts(rows: np.ndarray) -> list[np.ndarray]:
    """``rows`` in shards."""
    return [rows[start : start + SHARD] for start in range(0, len(rows), SHARD)]


def digest_of_texts(texts: Iterable[str]) -> str:
    """16 hexadecimal digits of texts in their order."""
    found = hashlib.sha256()
    for text in texts:
        found.update(hashlib.sha256(text.encode()).digest())
    return found.hexdigest()[:16]
