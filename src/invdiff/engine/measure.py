"""What discovery computes with the model: latents, scores and features, in shards on the disk."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from invdiff.core.scoring import Scores
from invdiff.data.samples import Samples
from invdiff.data.sources import open_samples
from invdiff.engine import order
from invdiff.engine.files import write_json
from invdiff.engine.models import ModelRef, resolve, source_of
from invdiff.engine.passes import Encode, Features, Reference, Score
from invdiff.engine.processes import automatic
from invdiff.engine.run import RunFolder
from invdiff.engine.shards import Tensors, cached
from invdiff.errors import DataError

SHARD = 256


def open_run_samples(run: RunFolder) -> Samples:
    """The run's data at the model's image size; what was left out goes to ``quarantine.json``."""
    section = run.config.data
    size = section.image_size or resolve(source_of(run)).image_size
    samples = open_samples(
        section.path, size, section.prompt_column, max_bad_share=section.max_bad_share
    )
    if samples.quarantined:
        write_json(run.path / "quarantine.json", samples.quarantined)
    return samples


@dataclass(frozen=True)
class Measured:
    """Everything discovery computes with the model, as arrays.

    ``second_features`` are those of the scored images under other noise.
    """

    latents: torch.Tensor
    scored: np.ndarray
    scores: Scores
    features: np.ndarray
    second_features: np.ndarray
    reference: np.ndarray | None


def measure(run: RunFolder, samples: Samples) -> Measured:
    """Latents, scores and features, each pass in shards that are kept on the disk.

    Features come in double precision: their means are large beside what tells groups apart.

    Raises:
        DataError: no prompt has images enough to look at.
    """
    config, source = run.config, source_of(run)
    section = config.discover
    folder = run.path / "cache" / _identity(run, samples)
    scored = choose_scored(samples, section.images_per_prompt, config.data.min_images, config.seed)
    if len(scored) == 0:
        raise DataError(
            f"no prompt has {config.data.min_images} images (data.min_images): groups are inferred "
            "among images of the same prompt, so give captions that repeat"
        )
    latents = encode(run, samples)
    every, some = np.arange(len(samples)), scored
    common = dict(source=source, seed=config.seed, batch=section.batch)
    score = Score(levels=tuple(section.levels), draws=section.draws, **common)
    levels = tuple(section.feature_levels)

    def run_pass(work: Any, shards: list[Any], name: str, title: str) -> Tensors:
        return cached(work, shards, folder, name, processes=processes_of(run), title=title)

    def with_prompts(rows: np.ndarray) -> list[Any]:
        return [(latents[part], [samples.prompt[i] for i in part]) for part in _parts(rows)]

    losses = run_pass(score, with_prompts(some), "scores", "scoring images")
    first = run_pass(
        Features(levels=levels, draws=1, **common),
        [latents[part] for part in _parts(every)],
        "features",
        "reading features",
    )["feature"].double().numpy()
    both = run_pass(
        Features(levels=levels, draws=2, **common),
        [latents[part] for part in _parts(some)],
        "second-features",
        "reading features again, with other noise",
    )["feature"].double().numpy()
    reference = None
    if section.estimator == "reference":
        work = Reference(levels=(0.0,), draws=1, **common)
        numbered = [(latents[p], [samples.prompt[i] for i in p], p) for p in _parts(every)]
        reference = run_pass(work, numbered, "reference", "scoring as the authors do")
        reference = reference["distance"].numpy()
    scores = Scores(losses["loss"].numpy(), losses["null_loss"].numpy())
    return Measured(latents, scored, scores, first, both, reference)


def encode(run: RunFolder, samples: Samples) -> torch.Tensor:
    """Scaled latents of all samples, from the cache where they are there already."""
    parts = [samples.pictures(part) for part in _parts(np.arange(len(samples)))]
    return cached(
        Encode(source_of(run), run.config.discover.batch),
        parts,
        run.path / "cache" / _identity(run, samples),
        "latents",
        processes=processes_of(run),
        title="encoding pictures",
    )["latent"]


def processes_of(run: RunFolder) -> int:
    """Worker processes for the run; a pipeline object cannot leave its process."""
    source = source_of(run)
    if not isinstance(source, ModelRef):
        return 1
    return automatic(run.config.processes, source.device)


def choose_scored(samples: Samples, most: int, least: int, seed: int) -> np.ndarray:
    """Indices of the images to score: a random ``most`` of each prompt that has ``least``."""
    prompt = np.array(samples.prompt)
    chosen = [np.zeros(0, int)]
    for name in samples.prompts():
        rows = np.flatnonzero(prompt == name)
        if len(rows) >= least:
            shuffled = order.epoch_order(len(rows), seed, "scored", name).numpy()
            chosen.append(rows[shuffled[:most]])
    return np.sort(np.concatenate(chosen))


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + SHARD] for start in range(0, len(rows), SHARD)]


def _identity(run: RunFolder, samples: Samples) -> str:
    """A name for the data, the model and everything else that the cached passes depend on."""
    section = _settings(run)
    text = repr((section, hashlib.sha256("".join(samples.sample_id).encode()).hexdigest()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _settings(run: RunFolder) -> dict[str, Any]:
    """The settings that the passes depend on."""
    section, source = run.config.discover, source_of(run)
    return {
        "model": asdict(source) if isinstance(source, ModelRef) else type(source.pipeline).__name__,
        "seed": run.config.seed,
        "levels": section.levels,
        "feature_levels": section.feature_levels,
        "draws": section.draws,
        "images": section.images_per_prompt,
        "size": run.config.data.image_size,
    }
