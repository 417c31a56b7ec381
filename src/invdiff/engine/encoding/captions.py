"""The captions' part of discovery: their conditions, and what they mean to the text encoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from invdiff.data.samples import Samples
from invdiff.engine.base_model.cache_keys import SHARD, digest_of_texts
from invdiff.engine.base_model.conditions import BATCH
from invdiff.engine.base_model.loading import ModelRef, Source, require_finite, resolve, store_of
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.encoding.session import processes_of, source_of, weights_key
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.storage.hashed_tensors import Tensors
from invdiff.engine.storage.shards import cached


def encode_captions(run: RunFolder, samples: Samples) -> None:
    """Put the conditions of all captions and the null prompt where every later pass finds them."""
    source = source_of(run)
    if isinstance(source, ModelRef):
        work = Conditions(source)
        captions = sorted(set(samples.caption) - {""})
        shards = [*(captions[k : k + BATCH] for k in range(0, len(captions), BATCH)), [""]]
        for _ in run_shards(work, work.left(shards), processes=1, title="encoding captions"):
            pass


def meanings(run: RunFolder, samples: Samples, texts: Sequence[str]) -> np.ndarray:
    """What each text means to the model's text encoder: (n, width) float32."""
    return cached(
        Meaning(source_of(run), run.config.discover.batch_size),
        [list(texts[start : start + SHARD]) for start in range(0, len(texts), SHARD)],
        run.path / "cache",
        "meanings",
        {"model": weights_key(run, "prompts"), "texts": digest_of_texts(texts)},
        processes=processes_of(run),
        title="reading captions",
    )["meaning"].numpy()


@dataclass(frozen=True)
class Conditions:
    """Conditions of captions, into the store of their model."""

    source: ModelRef

    def left(self, shards: Sequence[list[str]]) -> list[list[str]]:
        """The shards that are not there yet."""
        store = store_of(self.source)
        return [texts for texts in shards if store.missing(texts)]

    def __call__(self, texts: list[str]) -> int:
        """How many texts there are now."""
        return len(resolve(self.source).encode_prompts(texts))


@dataclass(frozen=True)
class Meaning:
    """What texts mean to the model's own text encoder."""

    source: Source
    batch: int

    def __call__(self, texts: list[str]) -> Tensors:
        """Texts to ``meaning`` (n, width) float32."""
        denoiser = resolve(self.source)
        parts = [
            denoiser.text_embedding(texts[start : start + self.batch]).float().cpu()
            for start in range(0, len(texts), self.batch)
        ]
        return {"meaning": require_finite(torch.cat(parts), "meanings of captions", denoiser)}
