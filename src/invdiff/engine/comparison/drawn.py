"""Pictures of two pipelines from the same seeds, as the two folders that are then compared.

Picture k of a prompt belongs to its seed, whichever pipeline draws it, so the two folders pair. A
picture that is there is not drawn again.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from invdiff.engine.base_model.cache_keys import fingerprint
from invdiff.engine.base_model.loading import ModelRef, device_of, resolve, weights_of
from invdiff.engine.base_model.offloading import GROUPS, require_steps
from invdiff.engine.distributed.pool import run_shards, worker_count
from invdiff.engine.sampling.sample import SamplingPart, draw_shard, slug
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.storage.files import read_json, write_json, write_text
from invdiff.errors import RunError
from invdiff.model.guidance.hook import FULL
from invdiff.model.texts import warn_of_cut

FIELDS = ("file_name", "caption", "seed")


@dataclass(frozen=True)
class Wanted:
    """What both pipelines draw, and how."""

    prompts: tuple[str, ...]
    images: int
    scale: float
    steps: int
    seed: int
    dtype: str = "float32"
    batch: int = 16


@dataclass(frozen=True)
class Pipeline:
    """A pipeline by folder or built-in name, with an adapter of InvDiff or without."""

    path: str
    adapter: Path | None = None
    strength: float = 1.0


def draw_folder(pipeline: Pipeline, wanted: Wanted, folder: Path, processes: int = 0) -> Path:
    """Draw what is missing in ``folder`` and list it in ``metadata.csv``; returns ``folder``.

    Raises:
        RunError: the folder has pictures of another pipeline or other settings.
        ModelError: the pipeline or the adapter cannot be used.
    """
    device = device_of("auto")
    source = ModelRef(pipeline.path, device, wanted.dtype)
    asked = _record(pipeline, source, wanted)
    known = folder / "drawn.json"
    if known.is_file() and read_json(known) != asked:
        raise RunError(
            f"{folder} has pictures of another pipeline or with other settings: take another --out"
        )
    denoiser = resolve(source)
    require_steps(denoiser, wanted.steps)
    warn_of_cut(denoiser.readers, wanted.prompts, f"prompts of {pipeline.path}")
    write_json(known, asked)
    strength = pipeline.strength if pipeline.adapter else 0.0
    sampler = Sampler(source, pipeline.adapter, strength, FULL, wanted.scale, wanted.steps)
    parts = [_part(sampler, wanted, prompt, folder) for prompt in wanted.prompts]
    shards = [shard for part in parts for shard in part.missing(wanted.batch)]
    done = sum(part.batches(wanted.batch) for part in parts) - len(shards)
    workers = worker_count(processes, device)
    title = f"drawing {folder.name}"
    for _ in run_shards(draw_shard, shards, processes=workers, title=title, done=done):
        pass
    write_text(folder / "metadata.csv", _listed(parts, folder))
    return folder


def _record(pipeline: Pipeline, source: ModelRef, wanted: Wanted) -> dict[str, Any]:
    """Everything that a picture depends on, as JSON values; weights by what they are."""
    adapter = pipeline.adapter
    own: dict[str, Any] = {"pipeline": pipeline.path, "weights": weights_of(source, *GROUPS)}
    own["strength"] = pipeline.strength if adapter else 0.0
    own["adapter"] = str(adapter) if adapter else ""
    own["adapter_weights"] = fingerprint(adapter, ["."]) if adapter else ""
    facts = asdict(wanted) | {"prompts": list(wanted.prompts)}
    return own | {key: value for key, value in facts.items() if key != "batch"}


def _part(sampler: Sampler, wanted: Wanted, prompt: str, folder: Path) -> SamplingPart:
    seeds = tuple(seed_of(wanted.seed, prompt, k) for k in range(wanted.images))
    return SamplingPart("drawn", sampler, prompt, (prompt,), seeds, folder / slug(prompt))


def _listed(parts: Sequence[SamplingPart], folder: Path) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for part in parts:
        for row in part.rows(folder):
            writer.writerow([row["path"], row["caption"], row["seed"]])
    return text.getvalue()
