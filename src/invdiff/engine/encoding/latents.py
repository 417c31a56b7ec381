"""Pictures to latents, in shards that are kept on the disk."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from invdiff.engine.base_model.cache_keys import digest_of_texts, row_parts
from invdiff.engine.base_model.loading import Source, require_finite, resolve
from invdiff.engine.encoding.session import Session
from invdiff.engine.storage.hashed_tensors import Tensors


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


PREPROCESSING = "central square, area means, RGB / 127.5 - 1, posterior mean"


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
