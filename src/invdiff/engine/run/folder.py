"""The run folder: whose configuration it is, what is done, what has to be done again.

A stage is done when ``stages/<stage>.json`` is there; that file is written last. Whatever else the
stage has left behind is work to go on from, as long as no setting that touches it has changed.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from invdiff.engine.run.environment import environment, pipeline_identity
from invdiff.engine.run.stages import FILES, NEEDS, STAGES, from_stage, touched
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.schema import Config
from invdiff.engine.storage.files import locked, plain
from invdiff.engine.storage.seals import Seals
from invdiff.errors import ConfigError, Interrupted, RunError


class RunFolder:
    """A folder that explains itself. Get one from :meth:`open` or :meth:`read`."""

    def __init__(self, path: Path, config: Config, pipeline: Any | None = None) -> None:
        self.path = path
        self.config = config
        self.pipeline = pipeline
        self.seals = Seals(path)
        self.changed: tuple[str, ...] = ()  # settings of this visit that can touch a stage

    @classmethod
    def is_run(cls, path: Path | str) -> bool:
        """Whether there is a run at ``path``."""
        return (Path(path) / "config.toml").is_file()

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """The run at ``path`` with its own configuration; takes no lock and writes nothing."""
        path = Path(path)
        if not cls.is_run(path):
            raise RunError(
                f"{path} is not a run folder: begin with `invdiff discover --preset faces "
                f"--out {path}`"
            )
        try:
            return cls(path, configuration.load_run(path / "config.toml"))
        except ConfigError as error:
            raise RunError(
                f"{path}/config.toml is not one that this version of InvDiff can read "
                f"({error.problems[0]}): mend it or take another --out"
            ) from None

    @classmethod
    def open(
        cls,
        path: Path | str,
        config: Config | None = None,
        redo: bool = False,
        pipeline: Any | None = None,
    ) -> Self:
        """Make the folder, or check that the one at ``path`` belongs to ``config``.

        Without a ``config`` an existing run keeps its own and a new one takes the defaults. With
        ``redo`` the stages that changed settings touch are forgotten instead of refused.

        Raises:
            RunError: the folder holds other files, another process works in it, or a changed
                setting touches a stage that has begun.
        """
        path = Path(path)
        if cls.is_run(path):
            old = cls.read(path)
            run = cls(path, config or old.config, pipeline)
            with locked(path):
                run._reconcile(old.config, redo)
            return run
        run = cls(path, config or Config(), pipeline)
        run._create()
        return run

    @property
    def base_model(self) -> str | None:
        """Name of the model that the run works on; None for a pipeline object without a name."""
        if self.pipeline is not None:
            return getattr(self.pipeline, "name_or_path", None) or None
        return None if self._recorded_pipeline() else self.config.model.path

    def done(self, stage: str) -> bool:
        """Whether ``stage`` and all before it are finished."""
        return self._missing(stage) is None

    def require(self, stage: str, by: str) -> None:
        """RunError with the command that makes what ``by`` needs, unless ``stage`` is done.

        What it and the stages before it have left must be what they wrote.
        """
        if missing := self._missing(stage):
            words = f"{missing} --out" if missing == STAGES[0] else missing
            raise RunError(f"{by} needs {missing}: run `invdiff {words} {self.path}` first")
        self.seals.verify(STAGES[: STAGES.index(stage) + 1])

    def _missing(self, stage: str) -> str | None:
        """The first stage up to ``stage`` that is not finished."""
        before = STAGES[: STAGES.index(stage) + 1]
        return next((name for name in before if not self._mark(name).is_file()), None)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Work on stage ``name``, alone in the folder, and mark it done at the end.

        What is put into the dict stands in ``stages/<name>.json``. What later stages made is
        dropped.
        """
        with locked(self.path):
            if name in NEEDS:
                self.require(NEEDS[name], by=name)
            self._need_pipeline(name)
            self._clear(from_stage(name)[1:])
            yield from self._timed(name)

    def require_inputs(self) -> None:
        """RunError if the data or the model has changed since discovery read them."""
        if self._changed_inputs:
            raise RunError(
                f"changed since {self.path} was discovered: {self._changed_inputs}; put it back, "
                f"take another --out, or `invdiff {STAGES[0]} --out {self.path} --redo`, after "
                "which the other stages are done again"
            )

    @cached_property
    def _changed_inputs(self) -> str:
        """What has changed of data and model; "" where nothing has, or it is not known."""
        if not self._mark(STAGES[0]).is_file():
            return ""
        known = self.seals.record(STAGES[0]).get("made_from")
        if known is None:  # an early run
            return ""
        from invdiff.engine.run.inputs import changed  # the readers of data

        model = self.base_model if self.pipeline is None else None
        return changed(self.path, known, self.config, model)

    def clear(self, stage: str) -> None:
        """Forget ``stage`` and all that follow it, with their files.

        Raises:
            RunError: it could not be made again, since data or model are others.
        """
        if stage in STAGES[1:-1]:
            self.require_inputs()
        with locked(self.path):
            self._clear(from_stage(stage))

    def event(self, kind: str, **facts: Any) -> None:
        """Append one line to ``events.jsonl``."""
        line = json.dumps(plain({"time": _now(), "event": kind, **facts}), ensure_ascii=False)
        with (self.path / "events.jsonl").open("a+b") as handle:
            if handle.tell() and os.pread(handle.fileno(), 1, handle.tell() - 1) != b"\n":
                handle.write(b"\n")  # a process was killed while it wrote its line
            handle.write(f"{line}\n".encode())

    def _timed(self, stage: str) -> Iterator[dict[str, Any]]:
        start, begun, facts = time.perf_counter(), _now(), dict[str, Any]()
        self.event("begun", stage=stage)
        try:
            yield facts
        except BaseException as error:
            kind = "interrupted" if isinstance(error, KeyboardInterrupt | Interrupted) else "failed"
            seconds = round(time.perf_counter() - start, 3)
            self.event(kind, stage=stage, seconds=seconds, why=f"{type(error).__name__}: {error}")
            raise
        seconds = round(time.perf_counter() - start, 3)
        total = round(seconds + self._seconds_before(stage), 3)
        self.event("done", stage=stage, seconds=seconds)
        known = {"stage": stage, "begun": begun, "done": _now(), "seconds": total}
        files = self.seals.of(FILES[stage])
        self.seals.write(f"stages/{stage}.json", known | facts | {"files": files})

    def _seconds_before(self, stage: str) -> float:
        """Seconds of the sessions that did not finish ``stage``, since it was last forgotten."""
        total = 0.0
        text = (self.path / "events.jsonl").read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            with suppress(ValueError, AttributeError, TypeError):  # a line that was cut or damaged
                event = json.loads(line)
                kind = event.get("event") if event.get("stage") == stage else None
                if kind in ("forgotten", "done"):
                    total = 0.0
                elif kind in ("interrupted", "failed"):
                    total += event.get("seconds", 0.0)
        return total

    def _mark(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"

    def _begun(self, stage: str) -> bool:
        """Whether ``stage`` has left anything behind."""
        paths = [self._mark(stage), *(self.path / name for name in FILES[stage])]
        return any(p.is_file() or any(q.is_file() for q in p.rglob("*")) for p in paths)

    def _clear(self, stages: tuple[str, ...]) -> None:
        if STAGES[0] in stages:
            self.__dict__.pop("_changed_inputs", None)
        for stage in stages:
            if not self._begun(stage):
                continue
            self.event("forgotten", stage=stage)
            self._mark(stage).unlink(missing_ok=True)  # first: a stage without files is not done
            for name in FILES[stage]:
                path = self.path / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _create(self) -> None:
        if self.path.is_dir() and not all(map(_of_making, self.path.iterdir())):
            raise RunError(
                f"{self.path} is not empty and is not a run folder: give --out a new folder"
            )
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file: --out takes a folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise RunError(
                f"{self.path} cannot be made ({error.strerror}): give --out another place"
            ) from None
        with locked(self.path):
            self._write_environment(new=True)
            self.seals.write_settings(configuration.dump(self.config))
            self.event("created")

    def _reconcile(self, old: Config, redo: bool) -> None:
        """Accept, redo or refuse what differs from the configuration the folder was made with."""
        changes = self._changes(old)
        begun: dict[str, str] = {}  # setting -> the first begun stage that it can change
        for key in changes:
            if stage := touched(key):
                self.changed += (key,)
                if first := next(filter(self._begun, from_stage(stage)), None):
                    begun[key] = first
        if begun:
            stage = min(begun.values(), key=STAGES.index)
            if not redo:
                state = "done" if self._mark(stage).is_file() else "begun"
                told = ", ".join(
                    f"{key} ({' -> '.join(map(_shown, changes[key]))})" for key in begun
                )
                raise RunError(
                    f"{self.path} has {stage} {state} with other settings: {told}; "
                    f"take another --out, or --redo to do {stage} and what follows again"
                )
            if stage in STAGES[1:-1]:
                self.require_inputs()
            self._clear(from_stage(stage))
        if changes:
            self.event("settings", changed={k: list(pair) for k, pair in changes.items()})
            self.seals.write_settings(configuration.dump(self.config))
        if self.pipeline is not None:
            self._write_environment()

    def _changes(self, old: Config) -> dict[str, tuple[Any, Any]]:
        before, after = configuration.flatten(old), configuration.flatten(self.config)
        if self.pipeline is not None:
            before["pipeline"] = self._recorded_pipeline()
            after["pipeline"] = pipeline_identity(self.pipeline)
        return {k: (before[k], after[k]) for k in after if before[k] != after[k]}

    def _recorded_pipeline(self) -> str | None:
        recorded: str | None = self.seals.read("environment.json").get("pipeline")
        return recorded

    def _write_environment(self, new: bool = False) -> None:
        pipeline = pipeline_identity(self.pipeline) if self.pipeline is not None else None
        self.seals.write("environment.json", environment() | {"pipeline": pipeline}, new)

    def _need_pipeline(self, stage: str) -> None:
        drawing = stage == "evaluate" and self.config.evaluate.strength_curve
        needs = stage in ("discover", "train", "sample") or drawing
        if needs and self.pipeline is None and (recorded := self._recorded_pipeline()):
            raise RunError(
                f"{self.path} was made with a pipeline object ({recorded}), which {stage} needs "
                f'again: invdiff.Run("{self.path}", pipeline=...)'
            )


def _of_making(path: Path) -> bool:
    """Whether ``path`` is what a process leaves that was killed while it made a run folder."""
    ours = (".lock", "environment.json")
    return path.name in ours or path.name.startswith((".environment-", ".config-"))


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
