"""The public face: one object for one run."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.config import Config
from invdiff.engine.settings.study import StudySection
from invdiff.engine.workflow import HOMES, do_stage
from invdiff.errors import InvDiffError, ModelError

STAGE_HOMES = HOMES | {"report": ("invdiff.app.report.builder", "build")}
# What each stage leaves for the reader.
RESULTS = {
    "discover": "groups.parquet",
    "train": "adapter",
    "sample": "samples.parquet",
    "evaluate": "metrics.json",
    "report": "report.html",
}


class Run:
    """A run in the folder ``path``; every stage is skipped if it is done.

    Args:
        path: the run folder; made if it is not there.
        config: a Config or nested settings; None keeps those of an existing run, else defaults.
        pipeline: a loaded diffusers pipeline to use instead of ``config.model.path``.
        data: shorthand for ``config.data.path``.
        redo: forget stages that changed settings touch, instead of refusing the change.

    Raises:
        ConfigError: settings are wrong; all of them are listed.
        RunError: the folder is not this run's.
    """

    def __init__(
        self,
        path: str | Path,
        config: Config | Mapping[str, Any] | None = None,
        pipeline: Any | None = None,
        data: str | Path | None = None,
        redo: bool = False,
    ) -> None:
        denoisers = ("unet", "transformer")
        if pipeline is not None and not any(hasattr(pipeline, name) for name in denoisers):
            raise ModelError(
                f"{type(pipeline).__name__} has neither a unet nor a transformer: give a loaded "
                "text-to-image pipeline of diffusers"
            )
        settings = _settings(Path(path), config, data)
        self.folder = RunFolder.open(path, settings, redo=redo, pipeline=pipeline)

    def __repr__(self) -> str:
        done = [stage for stage in STAGES if self.done(stage)]
        return f"Run({str(self.path)!r}, done: {', '.join(done) or 'nothing yet'})"

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.folder.config

    def done(self, stage: str) -> bool:
        """Whether ``stage`` and all before it are finished."""
        return self.folder.done(stage)

    def do(self, stage: str) -> Path:
        """Do ``stage`` unless it is done; the path of what it leaves."""
        if self.config.study != StudySection():
            import_module("invdiff.studies.comparison").register()
        do_stage(self.folder, stage, STAGE_HOMES[stage])
        return self.path / RESULTS[stage]

    def redo(self, stage: str) -> Path:
        """Forget ``stage`` and all that follow it, then do ``stage``."""
        self.folder.clear(stage)
        return self.do(stage)

    def discover(self) -> Path:
        """Infer the groups: ``groups.parquet``."""
        return self.do("discover")

    def train(self) -> Path:
        """Train and calibrate the guidance: the folder ``adapter``."""
        return self.do("train")

    def sample(self) -> Path:
        """Make pictures before and after from the same seeds: ``samples.parquet``."""
        return self.do("sample")

    def evaluate(self) -> Path:
        """Measure them: ``metrics.json``."""
        return self.do("evaluate")

    def report(self) -> Path:
        """Write it up: ``report.html``."""
        return self.do("report")

    def run_all(self) -> Path:
        """All stages in order; the path of the report."""
        return [self.do(stage) for stage in STAGES][-1]


def _settings(
    path: Path, config: Config | Mapping[str, Any] | None, data: str | Path | None
) -> Config | None:
    if isinstance(config, Mapping):
        config = configuration.parse(config)
    if config is not None and not isinstance(config, Config):
        raise InvDiffError(
            f"config must be a Config, nested settings or None, not {type(config).__name__}"
        )
    if data is None:
        return config
    if config is None:
        config = RunFolder.read(path).config if RunFolder.is_run(path) else Config()
    nested = config.model_dump()
    return configuration.parse(nested | {"data": nested["data"] | {"path": str(data)}})
