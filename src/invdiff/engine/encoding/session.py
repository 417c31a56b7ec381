"""What a stage of a run works with, opened once: settings, pictures, base model, cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from invdiff.data.samples import Samples
from invdiff.data.sources import open_samples
from invdiff.engine.base_model.conditions import InMemory
from invdiff.engine.base_model.loading import ModelRef, Source, device_of, resolve, weights_of
from invdiff.engine.base_model.offloading import Group, Offloading, require_drawable
from invdiff.engine.distributed.pool import worker_count
from invdiff.engine.run.results import Results
from invdiff.engine.settings.common import DataSection
from invdiff.engine.settings.schema import Config
from invdiff.engine.storage.files import write_json
from invdiff.engine.storage.hashed_tensors import About, Tensors, cached
from invdiff.model.denoiser import Denoiser
from invdiff.model.families.registry import from_pipeline


def open_data(section: DataSection, image_size: int) -> Samples:
    """The samples that the settings name, at a size; every stage opens the same ones."""
    return open_samples(
        section.path,
        image_size,
        prompt_column=section.prompt_column,
        max_bad_share=section.max_bad_share,
        group_column=section.group_column,
        quarantine=section.quarantine,
    )


@dataclass(frozen=True)
class Session:
    """A run as its stages see it; nothing of it is shared with another process.

    ``path`` is where results go, ``pipeline`` a loaded pipeline to use in the place of the model
    that the settings name, ``base_model`` the name of the model, if it has one.
    """

    path: Path
    config: Config
    pipeline: Any | None = None
    base_model: str | None = None

    @cached_property
    def results(self) -> Results:
        """What the stages before this one have left."""
        return Results(self.path)

    @cached_property
    def source(self) -> Source:
        """The model: the pipeline that was given, or a reference that a worker can load."""
        if self.pipeline is not None:
            return Offloading.of(from_pipeline(self.pipeline), InMemory())
        section = self.config.model
        return ModelRef(
            section.path,
            device_of(section.device),
            section.dtype,
            section.attention,
            str(self.cache / "prompts"),
        )

    @property
    def denoiser(self) -> Denoiser:
        """The model, loaded; a process loads it once. ModelError if it cannot draw as asked."""
        found = resolve(self.source)
        asked = self.config.sample
        scales = {self.config.calibrate.guidance_scale, *asked.guidance_scales}
        require_drawable(found, asked.steps, scales)
        return found

    @property
    def adapter(self) -> Path:
        """The folder of the trained adapter."""
        return self.path / "adapter"

    @property
    def cache(self) -> Path:
        """The folder of what can be computed again."""
        return self.path / "cache"

    @property
    def processes(self) -> int:
        """Worker processes; a pipeline object cannot leave its process."""
        if not isinstance(self.source, ModelRef):
            return 1
        return worker_count(self.config.processes, self.source.device)

    @property
    def image_size(self) -> int:
        """Pixels a side of the pictures, the model's own where the settings name none."""
        return self.config.data.image_size or self.denoiser.image_size

    @cached_property
    def samples(self) -> Samples:
        """The data at that size; what was left out goes to ``quarantine.json``."""
        samples = open_data(self.config.data, self.image_size)
        if samples.quarantined:
            write_json(self.path / "quarantine.json", samples.quarantined)
        return samples

    def weights_key(self, *groups: Group) -> str:
        """Which weights the parts ``groups`` of the model have, and their number format."""
        if isinstance(self.source, ModelRef):
            return f"{weights_of(self.source, *groups)} {self.source.dtype}"
        return type(self.source.pipeline).__name__

    def cached(
        self,
        work: Callable[[Any], Tensors],
        shards: Sequence[Any],
        name: str,
        about: About,
        title: str,
        load: Callable[[Any], Any] | None = None,
    ) -> Tensors:
        """What ``work`` makes of all shards, from the run's cache where it is there already."""
        processes = self.processes
        return cached(
            work, shards, self.cache, name, about, processes=processes, title=title, load=load
        )
