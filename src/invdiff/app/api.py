"""The public face: one object for one run."""

import logging
from collections.abc import Iterator, Mapping
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invdiff.data.sets import builtin
from invdiff.engine.distributed import only_once
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.schema import Config
from invdiff.engine.settings.study import StudySection
from invdiff.engine.workflow import HOMES, do_stage
from invdiff.errors import ArgumentError, InvDiffError, ModelError, RunError, printable

if TYPE_CHECKING:
    from invdiff.app.results import RunGroups, RunMetrics
    from invdiff.engine.run.records import Attributes

STAGE_HOMES = HOMES | {"report": ("invdiff.app.report.builder", "build")}
logger = logging.getLogger(__name__)
# What each stage leaves for the reader.
RESULTS = {
    "discover": "groups.parquet",
    "train": "adapter",
    "sample": "samples.parquet",
    "evaluate": "metrics.json",
    "report": "report.html",
}
MOST_SETTINGS = 8  # that the repr of a run shows


class Run:
    """A run in the folder ``path``; every stage is skipped if it is done.

    Args:
        path: the run folder; made if it is not there.
        config: a Config, nested settings or a TOML file; None keeps those of an existing run, else
            defaults.
        pipeline: a loaded diffusers pipeline to use instead of ``config.model.path``.
        data: shorthand for ``config.data.path``.
        preset: name of settings that come with the package, such as "sd15"; nested settings or
            the file in ``config`` are put over them.
        redo: forget stages that changed settings touch, instead of refusing the change.

    Raises:
        ConfigError: settings are wrong; all of them are listed.
        RunError: the folder is not this run's.
        ArgumentError: a preset together with a Config, which is whole by itself.

    Examples:
        >>> import invdiff
        >>> run = invdiff.Run("runs/mine", {"train": {"steps": 600}}, data="pictures")
        >>> run
        Run('runs/mine')
          done:       nothing yet
          next:       discover
          settings:   data.path = 'pictures'
                      train.steps = 600
        >>> report = run.run_all()  # doctest: +SKIP
        >>> run.groups  # doctest: +SKIP
        >>> run.metrics  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | Path,
        config: Config | Mapping[str, Any] | str | Path | None = None,
        pipeline: Any | None = None,
        data: str | Path | None = None,
        redo: bool = False,
        preset: str | None = None,
    ) -> None:
        only_once()
        denoisers = ("unet", "transformer")
        if pipeline is not None and not any(hasattr(pipeline, name) for name in denoisers):
            raise ModelError(
                f"{type(pipeline).__name__} has neither a unet nor a transformer: give a loaded "
                "text-to-image pipeline of diffusers"
            )
        settings = _settings(Path(path), config, preset, data)
        self.folder = RunFolder.open(path, settings, redo=redo, pipeline=pipeline)

    def __repr__(self) -> str:
        lines = [
            f"  {name + ':':12}{value}".replace("\n", "\n" + " " * 14)
            for name, value in _facts(self)
        ]
        return "\n".join([f"Run({str(self.path)!r})", *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left;vertical-align:top">{escape(name)}</th>'
            f'<td style="text-align:left;white-space:pre-line">{_html(value)}</td></tr>'
            for name, value in _facts(self)
        )
        return f"<table><caption>Run {_html(str(self.path))}</caption>{rows}</table>"

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.folder.config

    @property
    def groups(self) -> "RunGroups":
        """The groups that were found, with memberships and weights; RunError before discover."""
        from invdiff.app.results import RunGroups

        self.folder.require("discover", by="groups")
        return RunGroups.read(self.path)

    @property
    def attributes(self) -> "Attributes":
        """The attributes that were found, most tied first; RunError before discover."""
        from invdiff.engine.run.results import Results

        self.folder.require("discover", by="attributes")
        return Results(self.path).attributes

    @property
    def metrics(self) -> "RunMetrics":
        """What the pictures show before and after; RunError before evaluate."""
        from invdiff.app.results import RunMetrics

        self.folder.require("evaluate", by="metrics")
        return RunMetrics.read(self.path)

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
    path: Path,
    config: Config | Mapping[str, Any] | str | Path | None,
    preset: str | None,
    data: str | Path | None,
) -> Config | None:
    """What ``config``, ``preset`` and ``data`` say together; None keeps an existing run's."""
    place = builtin.resolve_name(data) if isinstance(data, Path) else data
    overrides = [] if place is None else [f"data.path={place}"]
    if config is None and preset is None:
        if data is None:
            return None
        config = RunFolder.read(path).config if RunFolder.is_run(path) else _toys(str(place))
    if isinstance(config, Config):
        if preset is not None:
            raise ArgumentError(
                "preset",
                "must be left out with a Config, which is whole by itself",
                repr(preset),
                "give nested settings or a file to change some of the preset's",
            )
        return configuration.with_overrides(config, overrides)
    if not isinstance(config, str | Path | Mapping | None):
        raise InvDiffError(
            "config must be a Config, nested settings, a TOML file or None, not "
            f"{type(config).__name__}"
        )
    return configuration.load(config, overrides, preset)


def _toys(data: str) -> Config:
    """The defaults, which are those of the embedded model; a line if the data is other data."""
    config = Config()
    if data not in builtin.SETS:
        logger.warning(
            "Run(data=%r) has neither preset nor config: it takes the embedded model %s and its "
            'settings; preset="sd15", "sdxl" or "flux" has those for such models',
            data,
            config.model.path,
        )
    return config


def _html(text: str) -> str:
    return escape(printable(text, keep="\n"))


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """Names with what there is to say at a glance; only what finished stages wrote is opened."""
    done = [stage for stage in STAGES if run.done(stage)]
    yield "done", ", ".join(done) or "nothing yet"
    if len(done) < len(STAGES):
        yield "next", STAGES[len(done)]
    plain = configuration.flatten(Config())
    changed = {k: v for k, v in configuration.flatten(run.config).items() if v != plain[k]}
    told = [f"{key} = {value!r}" for key, value in changed.items()]
    more = [f"and {len(told) - MOST_SETTINGS} more"] if len(told) > MOST_SETTINGS else []
    yield "settings", "\n".join([*told[:MOST_SETTINGS], *more]) or "the defaults"
    try:
        for stage in done[-1:]:
            run.folder.require(stage, by="repr")
    except RunError as error:
        yield "problem", str(error)
        return
    if "discover" in done and (run.path / "discovery.json").is_file():
        yield "groups", repr(run.groups)
        if (run.path / "attributes.json").is_file():
            yield "attributes", repr(run.attributes)
    if "evaluate" in done:
        yield "metrics", repr(run.metrics)
    if "report" in done:
        yield "report", str(run.path / "report.html")
