"""Which inferred group generated pictures belong to, and whether they show their prompts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from invdiff.core.measurement import content
from invdiff.engine.base_model.loading import Source, resolve
from invdiff.engine.discovery.groups import Model
from invdiff.engine.discovery.passes import Contrast, Features, Score
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.settings.schema import Config
from invdiff.model.lora.adapter import disabled, switched_on

BATCH = 32
NO_TEXTS: Mapping[str, str] = MappingProxyType({})
HERE = partial(run_shards, processes=1)


Shard = tuple[str, list[str], list[int]]
"""The name of a prompt group, captions and seeds."""


def pictures_of(sampler: Sampler, shard: Shard) -> np.ndarray:
    """The pictures themselves, for workers: uint8 (n, height, width, 3)."""
    return sampler.pictures(*shard[1:])


@dataclass(frozen=True)
class Generated:
    """What the *base* model makes of generated pictures, whatever draws them, for workers.

    The features of an adapted network lie elsewhere, and the models of the groups know the base's.
    ``texts`` are the prompts that a picture may show, by name; with none that is not looked at.
    """

    sampler: Sampler
    features: Features
    texts: Mapping[str, str]

    def __call__(self, shard: Shard) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, level * width), and whether each picture shows its own prompt (n,)."""
        latents = self.sampler.latents(*shard[1:])
        module = resolve(self.sampler.source).module
        with disabled(module) if switched_on(module) else nullcontext():
            features = self.features(latents)["feature"].double().numpy()
            return features, self._shown(latents, shard) if self.texts else np.ones(0, bool)

    def _shown(self, latents: torch.Tensor, shard: Shard) -> np.ndarray:
        """Under its own caption rather than the other prompts, or none if there are no others."""
        name, captions, _ = shard
        how = (self.features.source, self.features.seed, content.LEVELS, 1, self.features.batch)
        own = Score(*how)((latents, captions))
        others = tuple(text for other, text in self.texts.items() if other != name)
        rest = Contrast(*how, others)(latents)["loss"] if others else own["null_loss"][:, None]
        losses = torch.cat([own["loss"][:, None], rest], 1)
        return content.shows_own_prompt(losses.double().mean((2, 3)).numpy())


def judge_generated(
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
    spread: Callable[..., Iterator[tuple[Any, Any]]] = HERE,
    texts: Mapping[str, str] = NO_TEXTS,
) -> dict[str, tuple[np.ndarray, ...]]:
    """Log-likelihood ratios of groups to group 0, for fresh pictures of each prompt of ``models``.

    And whether each picture shows its prompt, not another of ``texts``. Drawn at guidance
    ``scale`` with the ``captions`` of each prompt in turn; their seeds belong to ``owner``, so no
    picture is used twice. ``spread`` does the work, as
    :func:`~invdiff.engine.distributed.pool.run_shards` does.
    """
    sampler = Sampler.of(config, source, adapter, strength, scale)
    levels = tuple(config.study.feature_levels)
    features = Features(source, config.seed, levels, 1, config.discover.batch_size)
    shards = shards_of(config, list(models), captions, owner)
    work = Generated(sampler, features, dict(texts))
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in models}
    for (name, *_), (seen, shown) in spread(work, shards, title=title):
        found[name].append((models[name].log_ratio(seen), shown))
    return {name: tuple(map(np.concatenate, zip(*of, strict=True))) for name, of in found.items()}


def log_ratios(*drawn: Any, **how: Any) -> dict[str, np.ndarray]:
    """The ratios of :func:`judge_generated` alone."""
    return {name: ratios for name, (ratios, _) in judge_generated(*drawn, **how).items()}


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
