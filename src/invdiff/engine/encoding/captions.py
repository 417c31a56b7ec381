"""The captions' part of discovery: their conditions, and what they mean to the text encoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from invdiff.engine.base_model.cache_keys import SHARD, digest_of_texts
from invdiff.engine.base_model.conditions import BATCH
from invdiff.engine.base_model.loading import ModelRef, Source, require_finite, resolve, store_of
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.encoding.session import Session
from invdiff.engine.storage.hashed_tensors import Tensors


def encode_captions(session: Session) -> None:
    """Put the conditions of all captions and the null prompt where every later pass finds them."""
    source = session.source
    if isinstance(source, ModelRef):
        work = Conditions(source)
        captions = sorted(set(session.samples.caption) - {""})
        shards = [*(captions[k : k + BATCH] for k in range(0, len(captions), BATCH)), [""]]
        for _ in run_shards(work, work.left(shards), processes=1, title="encoding captions"):
            pass


def text_embeddings(session: Session, texts: Sequence[str]) -> np.ndarray:
    """What each text means to the model's text encoder: (n, width) float32."""
    return session.cached(
        TextEmbedding(session.source, session.config.discover.batch_size),
        [list(texts[start : start + SHARD]) for start in range(0, len(texts), SHARD)],
        "meanings",
        {"model": session.weights_key("prompts"), "texts": digest_of_texts(texts)},
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
class TextEmbedding:
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
