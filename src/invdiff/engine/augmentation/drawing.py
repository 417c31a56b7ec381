"""What is to be drawn, and pictures of each prompt until there are enough of each inferred group.

Picture k of a prompt belongs to its seed alone, and which group it is in to the picture alone, so
the pictures that are kept, the first of each group by k, depend on neither batches nor processes
nor interruptions. What was drawn lies in a folder until the set is complete.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from invdiff.engine.discovery.groups import Model, found_models
from invdiff.engine.discovery.passes import Features
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.encoding.encode import Encode
from invdiff.engine.encoding.session import Session
from invdiff.engine.sampling.sample import slug
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.storage.files import write_with
from invdiff.errors import RunError

MOST_TRIES = 20
LEAST_TRIES = 100


@dataclass(frozen=True)
class Quota:
    """How many pictures of a prompt are wanted: of each inferred group, or of all together.

    ``counts`` has one for each group where the prompt has groups, which ``model`` tells apart.
    """

    prompt: str
    captions: tuple[str, ...]
    counts: tuple[int, ...]
    model: Model | None = None


def even_set(session: Session, images: int) -> list[Quota]:
    """``images`` pictures of each prompt, in parts that differ by one for its inferred groups."""
    models, quotas = found_models(session), []
    for prompt, captions in sorted(session.results.discovery.captions_drawn.items()):
        model = models.get(prompt)
        there = np.ones(1, bool) if model is None else model.present
        ends = np.cumsum(there) * images // there.sum()
        counts = tuple(int(part) for part in np.diff(ends, prepend=0))
        quotas.append(Quota(prompt, captions, counts, model))
    return quotas


def top_up(session: Session) -> list[Quota]:
    """What the smaller inferred groups of each prompt lack; none of a group that it has none of.

    Raises:
        RunError: no groups were found, so there is nothing to even out.
    """
    prompt, group = np.array(session.results.groups.prompt), session.results.groups.group
    captions, quotas = session.results.discovery.captions_drawn, []
    for name, model in sorted(found_models(session).items()):
        there = model.present
        counts = np.bincount(group[prompt == name], minlength=len(there))
        lacking = tuple(int(n) for n in (counts.max() - counts) * there)
        quotas.append(Quota(name, captions[name], lacking, model))
    if not quotas:
        raise RunError(
            f"{session.path} found no groups, so there is nothing to even out: "
            "--images-per-prompt N draws a set of its own"
        )
    return quotas


@dataclass(frozen=True)
class Artist:
    """Draws the pictures of any quota into ``folder``; the ``owner`` of the seeds names the use."""

    sampler: Sampler
    features: Features
    folder: Path
    seed: int
    owner: str

    def path(self, quota: Quota, index: int) -> Path:
        """Where picture ``index`` of a quota is."""
        return self.folder / slug(quota.prompt) / f"{index:05d}.png"

    def seed_at(self, quota: Quota, index: int) -> int:
        """The seed of picture ``index`` of a quota."""
        return seed_of(self.seed, f"{self.owner} {quota.prompt}", index)

    def __call__(self, shard: tuple[Quota, tuple[int, ...]]) -> np.ndarray:
        """Log-likelihood ratios of groups to group 0; draws what is missing. 0 without groups."""
        quota, indices = shard
        missing = [k for k in indices if not self.path(quota, k).is_file()]
        if missing:
            captions = [quota.captions[k % len(quota.captions)] for k in missing]
            drawn = self.sampler.pictures(captions, [self.seed_at(quota, k) for k in missing])
            for k, picture in zip(missing, drawn, strict=True):
                write_with(self.path(quota, k), Image.fromarray(picture).save)
        if quota.model is None:
            return np.zeros(len(indices))
        pictures = np.stack([read_ratios(self.path(quota, k)) for k in indices])
        latents = Encode(self.sampler.source, self.features.batch)(pictures)["latent"]
        return quota.model.log_ratio(self.features(latents)["feature"].double().numpy())


def read_ratios(path: Path) -> np.ndarray:
    """The pixels of a picture; a damaged one is dropped, so that the next call draws it again."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RunError(
            f"{path} was damaged ({error}); it is dropped: run the same command again"
        ) from error


def draw_all(
    artist: Artist, quotas: Sequence[Quota], batch: int, processes: int
) -> dict[str, np.ndarray]:
    """Log ratios of the pictures 0, 1, ... of each quota, as many as fulfil it.

    Raises:
        RunError: a group hardly ever comes.
    """
    known = {quota.prompt: no_ratios(quota) for quota in quotas}
    while shards := [shard for quota in quotas for shard in due(quota, known[quota.prompt], batch)]:
        title = "drawing pictures"
        found = run_shards(artist, shards, processes=processes, title=title)
        parts = {(quota.prompt, indices): ratios for (quota, indices), ratios in found}
        for quota, indices in shards:  # in order, whoever was first
            own = parts[quota.prompt, indices]
            known[quota.prompt] = np.concatenate([known[quota.prompt], own])
    return known


def due(quota: Quota, known: np.ndarray, batch: int) -> Iterator[tuple[Quota, tuple[int, ...]]]:
    """The next pictures to draw, a few more than the groups seem to need; none if all are there."""
    group = groups_of_drawn(quota, known)
    have = np.bincount(group, minlength=len(quota.counts))
    short = np.array(quota.counts) - have
    if (short <= 0).all():
        return
    if len(known) > max(LEAST_TRIES, MOST_TRIES * sum(quota.counts)):
        rare = int(short.argmax())
        raise RunError(
            f"only {have[rare]} of {len(known)} pictures of {quota.prompt!r} are of inferred group "
            f"{rare}, {quota.counts[rare]} are wanted: train longer, or give another --strength"
        )
    rate = (have + 1) / (len(known) + len(quota.counts))
    more = math.ceil(max(short[short > 0] / rate[short > 0]))
    stop = len(known) + batch * math.ceil(more / batch)
    for start in range(len(known), stop, batch):
        yield quota, tuple(range(start, start + batch))


def groups_of_drawn(quota: Quota, ratios: np.ndarray) -> np.ndarray:
    """The inferred group of each picture, all as likely before it is looked at."""
    if quota.model is None:
        return np.zeros(len(ratios), np.int64)
    return against_zero(ratios).argmax(1)


def against_zero(ratios: np.ndarray) -> np.ndarray:
    """Ratios (n, K) of all groups to group 0, its own included, from those of the others."""
    others = ratios[:, None] if ratios.ndim == 1 else ratios
    return np.concatenate([np.zeros((len(ratios), 1)), others], 1)


def no_ratios(quota: Quota) -> np.ndarray:
    """Ratios of no picture at all, to which others can be added."""
    return np.zeros((0, len(quota.counts) - 1) if len(quota.counts) > 2 else 0)


def kept_pictures(quota: Quota, ratios: np.ndarray) -> list[int]:
    """The pictures that are kept: the first of each group."""
    group = groups_of_drawn(quota, ratios)
    kept = [np.flatnonzero(group == g)[:count] for g, count in enumerate(quota.counts)]
    return sorted(int(k) for k in np.concatenate(kept))
