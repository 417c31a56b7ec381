"""Work in shards whose results are kept on the disk, so that an interrupted pass goes on."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from invdiff.engine.files import write_with
from invdiff.engine.processes import run_shards

Tensors = dict[str, torch.Tensor]


def cached(
    work: Callable[[Any], Tensors],
    shards: Sequence[Any],
    folder: Path,
    name: str,
    *,
    processes: int,
    title: str,
) -> Tensors:
    """The concatenated results of ``work`` over ``shards``, each kept as ``name-<k>``.

    ``folder`` must be named for everything that the results depend on; a shard file that cannot
    be read is made again.
    """
    results: dict[int, Tensors] = {}
    for index in range(len(shards)):
        found = _read(_path(folder, name, index))
        if found is not None:
            results[index] = found
    missing = [(index, shards[index]) for index in range(len(shards)) if index not in results]
    if missing:
        numbered = _Numbered(work)
        for (index, _), tensors in run_shards(
            numbered, missing, processes=processes, title=title, done=len(results)
        ):
            write_with(_path(folder, name, index), partial(save_file, tensors))
            results[index] = tensors
    return {key: torch.cat([results[i][key] for i in range(len(shards))]) for key in results[0]}


class _Numbered:
    """``work`` for shards that carry their number (a class, so that it can be pickled)."""

    def __init__(self, work: Callable[[Any], Tensors]) -> None:
        self.work = work

    def __call__(self, shard: tuple[int, Any]) -> Tensors:
        return {key: value.contiguous() for key, value in self.work(shard[1]).items()}


def _path(folder: Path, name: str, index: int) -> Path:
    return folder / f"{name}-{index:05d}.safetensors"


def _read(path: Path) -> Tensors | None:
    if not path.is_file():
        return None
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        return None
