"""Pictures to latents, captions to conditions and to what they mean to the text encoder.

All are made in shards that are kept on the disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from invdiff.engine.base_model.cache_keys import SHARD, digest_of_texts, row_parts
from invdiff.engine.base_model.conditions import BATCH
from invdiff.engine.base_model.loading import ModelRef, Source, require_finite, resolve, store_of
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.encoding.session import Session
from invdiff.engine.storage.hashed_tensors import Tensors

PREPROCESSING = "sRGB, central square, area means, RGB / 127.5 - 1, posterior mean"


@dataclass(frozen=True)
class Encode:
    """Latents of pictures."""

    source: Source
    batch: int

    def __call__(self, pictures: np.ndarray) -> Tensors:
        """(n, size, size, 3) uint8 to ``latent`` (n, channels, height, width) float32."""
        denoiser = resolve(self.source)
        parts = [
            denoiser.encode_images(pictures[start : start + self.batch]).float().cpu()
            for start in range(0, len(pictures), self.batch)
        ]
        return {"latent": require_finite(torch.cat(parts), "latents of pictures", denoiser)}


def encode_pictures(session: Session, *, flipped: bool = False) -> torch.Tensor:
    """Scaled latents of all pictures of the data, from the cache where they are there already.

    With ``flipped`` those of the pictures mirrored left to right, kept beside the others.
    """
    samples = session.samples

    def load(part: np.ndarray) -> np.ndarray:
        pictures = samples.pictures(part.tolist())
        return np.ascontiguousarray(pictures[:, :, ::-1]) if flipped else pictures

    return session.cached(
        Encode(session.source, session.config.discover.batch_size),
        row_parts(np.arange(len(samples))),
        "latents",
        about_pictures(session) | ({"view": "flipped"} if flipped else {}),
        title="encoding flipped pictures" if flipped else "encoding pictures",
        load=load,
    )["latent"]


def about_pictures(session: Session) -> dict[str, Any]:
    """What latents depend on: autoencoder, size, how pictures are prepared, which they are."""
    return {
        "autoencoder": session.weights_key("pictures"),
        "size": session.image_size,
        "preprocessing": PREPROCESSING,
        "data": digest_of_texts(session.samples.sample_id),
    }


def encode_captions(session: Session) -> None:
    """Put the conditions of all captions and the null prompt where every later pass finds them."""
    source = session.source
    if isinstance(source, ModelRef):
        captions = sorted(set(session.samples.caption) - {""})
        shards = [*(captions[k : k + BATCH] for k in range(0, len(captions), BATCH)), [""]]
        left = [texts for texts in shards if store_of(source).missing(texts)]
        for _ in run_shards(Conditions(source), left, processes=1, title="encoding captions"):
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
