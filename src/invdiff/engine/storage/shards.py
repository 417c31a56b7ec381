"""Work in shards whose results are kept on the disk, so that an interrupted pass goes on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.storage.hashed_tensors import (
    About,
    Tensors,
    read_hashed,
    short_name,
    write_hashed,
)


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
    folder, results = cache / short_name(about), {}
    for index in range(len(shards)):
        found = read_hashed(_path(folder, name, index), _about(about, name, index))
        if found is not None:
            results[index] = found
    left = [index for index in range(len(shards)) if index not in results]
    missing = _Missing(shards, left, load)
    if left:
        numbered = _Numbered(work)
        for (index, _), tensors in run_shards(
            numbered, missing, processes=processes, title=title, done=len(results)
        ):
            write_hashed(_path(folder, name, index), tensors, _about(about, name, index))
            results[index] = tensors
    return {key: torch.cat([results[i][key] for i in range(len(shards))]) for key in results[0]}


class _Missing(Sequence[tuple[int, Any]]):
    """Shards with their numbers, each loaded when its turn comes."""

    def __init__(
        self, shards: Sequence[Any], left: list[int], load: Callable[[Any], Any] | None
    ) -> None:
        self.shards, self.left, self.load = shards, left, load

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, at: Any) -> Any:
        shard = self.shards[self.left[at]]
        return self.left[at], shard if self.load is None else self.load(shard)


class _Numbered:
    """``work`` for shards that carry their number (a class, so that it can be pickled)."""

    def __init__(self, work: Callable[[Any], Tensors]) -> None:
        self.work = work

    def __call__(self, shard: tuple[int, Any]) -> Tensors:
        return {key: value.contiguous() for key, value in self.work(shard[1]).items()}


def _path(folder: Path, name: str, index: int) -> Path:
    return folder / f"{name}-{index:05d}.safetensors"


def _about(about: About, name: str, index: int) -> About:
    return {**about, "shard": f"{name} {index}"}
