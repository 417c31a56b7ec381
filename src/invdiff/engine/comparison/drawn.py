"""Pictures of two pipelines from the same seeds, as the two folders that are then compared.

Picture k of a prompt belongs to its seed, whichever pipeline draws it, so the two folders pair. A
picture that is there is not drawn again.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from invdiff.engine.base_model.cache_keys import fingerprint
from invdiff.engine.base_model.loading import ModelRef, device_of, resolve, weights_of
from invdiff.engine.base_model.offloading import GROUPS, require_drawable
from invdiff.engine.distributed.pool import run_shards, worker_count
from invdiff.engine.sampling.sample import SamplingPart, draw_shard, slug
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.storage.files import read_json, write_csv, write_json
from invdiff.errors import RunError
from invdiff.model.guidance.hook import FULL
from invdiff.model.texts import warn_of_cut

BATCH = 16
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
    require_drawable(denoiser, wanted.steps, [wanted.scale])
    warn_of_cut(denoiser.reader, wanted.prompts, f"prompts of {pipeline.path}")
    write_json(known, asked)
    strength = pipeline.strength if pipeline.adapter else 0.0
    sampler = Sampler(source, pipeline.adapter, strength, FULL, wanted.scale, wanted.steps)
    parts = [_part(sampler, wanted, prompt, folder) for prompt in wanted.prompts]
    shards = [shard for part in parts for shard in part.missing(BATCH)]
    done = sum(part.batches(BATCH) for part in parts) - len(shards)
    workers = worker_count(processes, device)
    title = f"drawing {folder.name}"
    for _ in run_shards(draw_shard, shards, processes=workers, title=title, done=done):
        pass
    rows = [row | {"file_name": row["path"]} for part in parts for row in part.rows(folder)]
    write_csv(folder / "metadata.csv", FIELDS, rows)
    return folder


def _record(pipeline: Pipeline, source: ModelRef, wanted: Wanted) -> dict[str, Any]:
    """Everything that a picture depends on, as JSON values; weights by what they are."""
    adapter = pipeline.adapter
    own = {
        "pipeline": pipeline.path,
        "weights": weights_of(source, *GROUPS),
        "strength": pipeline.strength if adapter else 0.0,
        "adapter": str(adapter) if adapter else "",
        "adapter_weights": fingerprint(adapter, ["."]) if adapter else "",
    }
    return own | asdict(wanted) | {"prompts": list(wanted.prompts)}


def _part(sampler: Sampler, wanted: Wanted, prompt: str, folder: Path) -> SamplingPart:
    seeds = tuple(seed_of(wanted.seed, prompt, k) for k in range(wanted.images))
    return SamplingPart("drawn", sampler, prompt, (prompt,), seeds, folder / slug(prompt))
