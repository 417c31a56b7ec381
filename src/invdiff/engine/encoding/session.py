"""The model of a run and what its cache is keyed by."""

from invdiff.engine.base_model.condition_store import InMemory
from invdiff.engine.base_model.loading import ModelRef, Source, device_of, weights_of
from invdiff.engine.base_model.offloading import Group, Offloading
from invdiff.engine.distributed.pool import worker_count
from invdiff.engine.run.folder import RunFolder
from invdiff.model.families.registry import from_pipeline


def source_of(run: RunFolder) -> Source:
    """The model of a run: the pipeline it was given, or a reference from its settings."""
    if run.pipeline is not None:
        return Offloading.of(from_pipeline(run.pipeline), InMemory())
    section = run.config.model
    return ModelRef(
        section.path,
        device_of(section.device),
        section.dtype,
        section.attention,
        str(run.path / "cache" / "prompts"),
    )


def processes_of(run: RunFolder) -> int:
    """Worker processes for the run; a pipeline object cannot leave its process."""
    source = source_of(run)
    if not isinstance(source, ModelRef):
        return 1
    return worker_count(run.config.processes, source.device)


def weights_key(run: RunFolder, *groups: Group) -> str:
    """Which weights of the run's model the parts ``groups`` have, and their number format."""
    source = source_of(run)
    if isinstance(source, ModelRef):
        return f"{weights_of(source, *groups)} {source.dtype}"
    return type(source.pipeline).__name__
