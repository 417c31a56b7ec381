"""Which inferred group a generated picture belongs to, for calibration and for the feedback."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.engine.base_model.loading import Source, resolve
from invdiff.engine.discovery.groups import Model
from invdiff.engine.discovery.passes import Features
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.settings.config import Config
from invdiff.model.lora.adapter import disabled, switched_on

BATCH = 32
HERE = partial(run_shards, processes=1)


Shard = tuple[str, list[str], list[int]]
"""The name of a prompt group, captions and seeds."""


def pictures_of(sampler: Sampler, shard: Shard) -> np.ndarray:
    """The pictures themselves, for workers: uint8 (n, height, width, 3)."""
    return sampler.pictures(*shard[1:])


@dataclass(frozen=True)
class Generated:
    """Bottleneck features of generated pictures, for workers.

    The features are the *base* model's, whatever draws: those of an adapted network lie elsewhere,
    and the models of the groups know the base's.
    """

    sampler: Sampler
    features: Features

    def __call__(self, shard: Shard) -> np.ndarray:
        """Features (n, level * width)."""
        latents = self.sampler.latents(*shard[1:])
        module = resolve(self.sampler.source).module
        with disabled(module) if switched_on(module) else nullcontext():
            return self.features(latents)["feature"].double().numpy()


def log_ratios(
    config: Config,
    source: Source,
    adapter: Path | None,
    strength: float,
    models: Mapping[str, Model],
    captions: Mapping[str, Sequence[str]],
    *,
    scale: float,
    owner: str,
    title: str,
    spread: Callable[..., Iterator[tuple[Any, np.ndarray]]] = HERE,
) -> dict[str, np.ndarray]:
    """Log-likelihood ratios of groups to group 0, for fresh pictures of each prompt of ``models``.

    Drawn at guidance ``scale`` with the ``captions`` of each prompt in turn; their seeds belong to
    ``owner``, so no picture is used twice. ``spread`` does the work, as
    :func:`~invdiff.engine.distributed.pool.run_shards` does.
    """
    sampler = Sampler.of(config, source, adapter, strength, scale)
    levels = tuple(config.study.feature_levels)
    work = Generated(sampler, Features(source, config.seed, levels, 1, config.discover.batch_size))
    shards = shards_of(config, list(models), captions, owner)
    found: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for (name, *_), features in spread(work, shards, title=title):
        found[name].append(models[name].log_ratio(features))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def shards_of(
    config: Config, names: Sequence[str], captions: Mapping[str, Sequence[str]], owner: str
) -> list[Shard]:
    """The pictures of each prompt in batches, ``calibrate.images_per_prompt`` of them."""
    pictures = range(config.calibrate.images_per_prompt)
    return [
        (
            name,
            [captions[name][k % len(captions[name])] for k in pictures[start : start + BATCH]],
            [seed_of(config.seed, f"{owner} {name}", k) for k in pictures[start : start + BATCH]],
        )
        for name in names
        for start in pictures[::BATCH]
    ]
