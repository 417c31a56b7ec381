"""Pictures to latents, captions to conditions and to what they mean to the text encoder.

All are made in shards that are kept on the disk. What pictures are compared within is their
caption, captions that mean alike, or a column: max and min work within such a prompt group; a
picture is still scored and trained under its own caption.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from invdiff.core.discovery.prompt_clusters import nearest_centre, prompt_groups
from invdiff.data.pictures import READ_AS
from invdiff.data.samples import Samples, plural
from invdiff.engine.base_model.conditions import BATCH
from invdiff.engine.base_model.loading import ModelRef, Source, require_finite, resolve, store_of
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.encoding.session import Session
from invdiff.engine.settings.common import DataSection
from invdiff.engine.storage.hashed_tensors import SHARD, Tensors, digest_of_texts, row_parts
from invdiff.model.texts import warn_of_cut

logger = logging.getLogger(__name__)

Way = Literal["caption", "meaning", "column"]
REPRESENTATIVES = 8
PREPROCESSING = f"{READ_AS}, RGB / 127.5 - 1, posterior mean"


@dataclass(frozen=True)
class Encode:
    """What the model's ``method`` makes of pictures or texts, a batch at a time, under ``name``.

    ``what`` it is in words, for an error.
    """

    source: Source
    batch: int
    method: Literal["encode_images", "text_embedding"] = "encode_images"
    name: str = "latent"
    what: str = "latents of pictures"

    def __call__(self, given: Any) -> Tensors:
        """(n, size, size, 3) uint8 to latents (n, channels, height, width), texts to (n, width)."""
        denoiser = resolve(self.source)
        encode = getattr(denoiser, self.method)
        starts = range(0, len(given), self.batch)
        parts = [encode(given[start : start + self.batch]).float().cpu() for start in starts]
        return {self.name: require_finite(torch.cat(parts), self.what, denoiser)}


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
    batch = session.config.discover.batch_size
    return session.cached(
        Encode(session.source, batch, "text_embedding", "meaning", "meanings of captions"),
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
class Grouped:
    """Samples whose ``prompt`` is their prompt group, and how the groups came about.

    ``representatives`` are the captions that pictures of a group are drawn with.
    """

    samples: Samples
    way: Way
    representatives: Mapping[str, tuple[str, ...]]
    silhouettes: dict[int, float]

    def record(self) -> dict[str, Any]:
        """The entry ``prompt_groups`` of ``discovery.json``."""
        silhouettes = {str(count): value for count, value in self.silhouettes.items()}
        return {"by": self.way, "count": len(self.representatives), "silhouettes": silhouettes}

    def about(self, name: str) -> dict[str, Any]:
        """What ``discovery.json`` says about the captions of one group."""
        pairs = zip(self.samples.prompt, self.samples.caption, strict=True)
        captions = {caption for prompt, caption in pairs if prompt == name}
        return {"captions": len(captions), "representatives": list(self.representatives[name])}


def group_prompts(session: Session) -> Grouped:
    """Put the session's samples into prompt groups as its settings say."""
    section, samples = session.config.data, session.samples
    warn_of_cut(session.denoiser.reader, sorted(set(samples.caption)), "captions")
    way = way_of(section, samples.caption)
    if way == "caption":
        return Grouped(samples, way, {text: (text,) for text in samples.prompts()}, {})
    counts = Counter(samples.caption)
    captions = sorted(counts)
    images = np.array([counts[caption] for caption in captions])
    vectors = text_embeddings(session, captions)
    if way == "column":
        return Grouped(samples, way, spokesmen(samples, captions, vectors), {})
    found = prompt_groups(vectors, images, section.min_images)
    chosen = nearest_centre(vectors, images, found.label, REPRESENTATIVES)
    lists = [tuple(captions[at] for at in group.tolist()) for group in chosen]
    group_of = {text: lists[at][0] for text, at in zip(captions, found.label, strict=True)}
    grouped = replace(samples, prompt=tuple(group_of[text] for text in samples.caption))
    if section.prompt_groups == "auto":
        logger.warning(
            "few captions have %s or more (data.min_images): %s of %s were put into %s by meaning "
            "(data.prompt_groups)",
            plural(section.min_images, "picture"),
            plural(len(captions), "caption"),
            plural(len(samples), "picture"),
            plural(len(lists), "prompt group"),
        )
    return Grouped(grouped, way, {texts[0]: texts for texts in lists}, found.silhouettes)


def way_of(section: DataSection, captions: Sequence[str]) -> Way:
    """How to group; ``auto`` takes the captions if most images have one that repeats enough."""
    if section.prompt_groups != "auto":
        return section.prompt_groups
    if section.group_column:
        return "column"
    counts = Counter(captions).values()
    inside = sum(count for count in counts if count >= section.min_images)
    return "caption" if 2 * inside >= len(captions) else "meaning"


def spokesmen(
    samples: Samples, captions: Sequence[str], vectors: np.ndarray
) -> dict[str, tuple[str, ...]]:
    """For each prompt of the samples the captions nearest to the centre of its own ones."""
    row = {caption: at for at, caption in enumerate(captions)}
    found = {}
    for name in samples.prompts():
        pairs = zip(samples.prompt, samples.caption, strict=True)
        counts = Counter(caption for prompt, caption in pairs if prompt == name)
        own = sorted(counts)
        inside, images = vectors[[row[text] for text in own]], np.array([counts[t] for t in own])
        (nearest,) = nearest_centre(inside, images, np.zeros(len(own), int), REPRESENTATIVES)
        found[name] = tuple(own[at] for at in nearest.tolist())
    return found
