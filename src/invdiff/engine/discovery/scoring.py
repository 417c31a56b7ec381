"""What discovery computes with the model: latents, scores and features, in shards on the disk."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from invdiff.core.discovery.scores import Scores
from invdiff.data.samples import Samples
from invdiff.engine.discovery.passes import Contrast, Features, Pass, Score
from invdiff.engine.discovery.prompt_contrasts import ContrastLosses, standing_for_all
from invdiff.engine.distributed import randomness
from invdiff.engine.encoding.encode import about_pictures, encode_captions, encode_pictures
from invdiff.engine.encoding.session import Session
from invdiff.engine.settings.method import high_levels
from invdiff.engine.storage.hashed_tensors import About, Tensors, digest_of_texts, row_parts
from invdiff.errors import DataError

CONTRASTED = 300
"""Images of each prompt, of those scored, that are compared under all prompts: the passes grow with
their number times that of the prompts."""
NOTHING_MORE: About = MappingProxyType({})


@dataclass(frozen=True)
class PassResults:
    """Everything discovery computes with the model, as arrays.

    ``contrasts`` makes the
    passes of :meth:`Passes.contrasts` when it is called: not every estimator does; ``passes`` are
    for an estimator that looks at something else.
    """

    latents: torch.Tensor
    scored: np.ndarray
    scores: Scores
    features: np.ndarray
    passes: "Passes"
    contrasts: Callable[[], ContrastLosses]


def run_passes(session: Session, samples: Samples) -> PassResults:
    """Latents, scores and features, each pass in shards that are kept on the disk.

    Raises:
        DataError: no prompt has images enough to look at.
    """
    config = session.config
    section = config.discover
    scored = choose_scored(samples, section.images_per_prompt, config.data.min_images, config.seed)
    if len(scored) == 0:
        most = max(Counter(samples.prompt).values(), default=0)
        by_caption = config.data.prompt_groups == "caption"
        raise DataError(
            f"no prompt has {config.data.min_images} images (data.min_images), the most frequent "
            f"one has {most}: groups are inferred among images of one prompt. Give more images"
            + (', set data.prompt_groups = "meaning"' if by_caption else "")
            + ", or lower data.min_images"
        )
    latents = encode_pictures(session)
    encode_captions(session)
    passes = Passes(session, samples, latents)
    every = np.arange(len(samples))
    scores = passes.scores(scored)
    return PassResults(
        passes.latents,
        scored,
        scores,
        passes.features(every, 1, "features", "reading features"),
        passes,
        lambda: passes.contrasts(
            choose_scored(
                samples,
                min(CONTRASTED, section.images_per_prompt),
                config.data.min_images,
                config.seed,
            )
        ),
    )


@dataclass(frozen=True)
class Passes:
    """The passes through the denoiser that discovery makes over chosen images."""

    session: Session
    samples: Samples
    latents: torch.Tensor

    def scores(self, rows: np.ndarray) -> Scores:
        """Losses of the images under their own and the null prompt."""
        section = self.session.config.discover
        work = Score(levels=tuple(section.levels), draws=section.draws, **self.common())
        shards = [(self.latents[part], self.prompts(part)) for part in row_parts(rows)]
        losses = self.cached(work, rows, shards, "scores", "scoring images")
        return Scores(losses["loss"].numpy(), losses["null_loss"].numpy())

    def contrasts(self, rows: np.ndarray) -> ContrastLosses:
        """Losses of the images under the most frequent prompts, at the high levels alone."""
        section, prompts = self.session.config.discover, standing_for_all(self.samples, rows)
        levels = tuple(section.levels[k] for k in high_levels(section.levels))
        texts = tuple(prompts.values())
        work = Contrast(levels=levels, draws=section.draws, texts=texts, **self.common())
        shards = [self.latents[part] for part in row_parts(rows)]
        title, more = f"comparing {len(texts)} prompts", {"texts": digest_of_texts(texts)}
        losses = self.cached(work, rows, shards, "contrasts", title, more)["loss"]
        return ContrastLosses(losses.numpy(), tuple(prompts), rows)

    def features(self, rows: np.ndarray, draws: int, name: str, title: str) -> np.ndarray:
        """Bottleneck features of the images with the last of ``draws`` noise draws."""
        levels = tuple(self.session.config.study.feature_levels)
        work = Features(levels=levels, draws=draws, **self.common())
        shards = [self.latents[part] for part in row_parts(rows)]
        return self.cached(work, rows, shards, name, title)["feature"].double().numpy()

    def common(self) -> dict[str, Any]:
        """What all passes are made with."""
        config = self.session.config
        return {
            "source": self.session.source,
            "seed": config.seed,
            "batch": config.discover.batch_size,
        }

    def prompts(self, rows: np.ndarray) -> list[str]:
        """The captions of the images."""
        return [self.samples.caption[i] for i in rows]

    def cached(
        self,
        work: Pass,
        rows: np.ndarray,
        shards: list[Any],
        name: str,
        title: str,
        more: About = NOTHING_MORE,
    ) -> Tensors:
        """What ``work`` makes of the ``shards`` of the images, kept on the disk under ``name``."""
        about = about_pictures(self.session) | {
            "model": self.session.weights_key("denoiser", "prompts"),
            "images": digest_of_texts(self.samples.sample_id[i] for i in rows),
            "captions": digest_of_texts(self.samples.caption[i] for i in rows),
            "seed": work.seed,
            "levels": list(work.levels),
            "draws": work.draws,
            **more,
        }
        return self.session.cached(work, shards, name, about, title)


def choose_scored(samples: Samples, most: int, least: int, seed: int) -> np.ndarray:
    """Indices of the images to score: a random ``most`` of each prompt that has ``least``."""
    prompt = np.array(samples.prompt)
    chosen = [np.zeros(0, int)]
    for name in samples.prompts():
        rows = np.flatnonzero(prompt == name)
        if len(rows) >= least:
            shuffled = randomness.epoch_order(len(rows), seed, "scored", name).numpy()
            chosen.append(rows[shuffled[:most]])
    return np.sort(np.concatenate(chosen))
