"""Pictures to latents, in shards that are kept on the disk."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from invdiff.data.samples import Samples
from invdiff.engine.base_model.cache_keys import digest_of_texts, row_parts
from invdiff.engine.base_model.loading import Source, require_finite, resolve
from invdiff.engine.encoding.session import processes_of, source_of, weights_key
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.storage.hashed_tensors import Tensors
from invdiff.engine.storage.shards import cached


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


def encode(run: RunFolder, samples: Samples, *, flipped: bool = False) -> torch.Tensor:
    """Scaled latents of all samples, from the cache where they are there already.

    With ``flipped`` those of the pictures mirrored left to right, kept beside the others.
    """

    def load(part: np.ndarray) -> np.ndarray:
        pictures = samples.pictures(part.tolist())
        return np.ascontiguousarray(pictures[:, :, ::-1]) if flipped else pictures

    return cached(
        Encode(source_of(run), run.config.discover.batch_size),
        row_parts(np.arange(len(samples))),
        run.path / "cache",
        "latents",
        _about_pictures(run, samples) | ({"view": "flipped"} if flipped else {}),
        processes=processes_of(run),
        title="encoding flipped pictures" if flipped else "encoding pictures",
        load=load,
    )["latent"]


def _about_pictures(run: RunFolder, samples: Samples) -> dict[str, Any]:
    """What latents depend on: autoencoder, size, how pictures are prepared, which they are."""
    return {
        "autoencoder": weights_key(run, "pictures"),
        "size": run.config.data.image_size or resolve(source_of(run)).image_size,
        "preprocessing": PREPROCESSING,
        "data": digest_of_texts(samples.sample_id),
    }
