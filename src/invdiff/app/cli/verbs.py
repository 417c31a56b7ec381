"""What each verb does."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from invdiff.app.api import Run
from invdiff.app.cli import (
    augment,
    benchmark,
    data_build,
    data_check,
    data_classifier,
    data_prepare,
    two_folders,
    weights,
)
from invdiff.app.cli.arguments import STAGE_VERBS, UsageError
from invdiff.app.cli.summary import plan_text, strength_line, summary
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.config import Config
from invdiff.errors import ConfigError, RunError

SMOKE = "smoke run: it shows that everything works, its figures show nothing"


def dispatch(asked: argparse.Namespace) -> None:
    """Do what was asked for."""
    _VERBS[asked.verb](asked)


def _demo(asked: argparse.Namespace) -> None:
    asked.config, asked.preset = None, "faces-quick" if asked.quick else "faces"
    if asked.quick:
        print(SMOKE)
    _all_stages(asked)
    if asked.quick and not asked.dry_run:
        print(SMOKE)


def _all_stages(asked: argparse.Namespace) -> None:
    config = _resolve(asked)
    if asked.dry_run:
        print(plan_text(asked.out, config))
        return
    run = Run(asked.out, config, redo=asked.redo)
    if asked.redo and not run.folder.changed:
        run.folder.clear(STAGES[0])
    for number, stage in enumerate(STAGES, 1):
        print(
            f"[{number}/{len(STAGES)}] {stage}{' (done before)' if run.done(stage) else ''}",
            flush=True,
        )
        report = run.do(stage)
    print(strength_line(run.path))
    print(summary(run.path))
    print(f"report: {report}")


def _one_stage(asked: argparse.Namespace) -> None:
    stage = asked.verb
    config = _resolve(asked)
    if stage != STAGES[0]:
        RunFolder.read(asked.out).require(STAGES[STAGES.index(stage) - 1], by=stage)
    run = Run(asked.out, config, redo=asked.redo)
    if asked.redo:
        run.folder.clear(stage)
    before = run.done(stage)
    result = run.do(stage)
    print(
        f"{stage}: done before, nothing to do (--redo does it again)"
        if before
        else f"{stage}: done"
    )
    if stage == "train":
        print(strength_line(run.path))
    print(result)


def _evaluate(asked: argparse.Namespace) -> None:
    _stop_at(asked.problems + two_folders.problems(asked))
    if asked.folders:
        two_folders.evaluate(asked)
    else:
        _one_stage(asked)


def _augment(asked: argparse.Namespace) -> None:
    _stop_at(asked.problems + augment.problems(asked))
    augment.augment(asked)


def _weights(asked: argparse.Namespace) -> None:
    _stop_at(asked.problems + weights.problems(asked))
    weights.weights(asked)


def _data(asked: argparse.Namespace) -> None:
    _stop_at(asked.problems)
    _DATA_ACTIONS[asked.action](asked)


def _benchmark(asked: argparse.Namespace) -> None:
    _stop_at(asked.problems)
    benchmark.benchmark(asked)


def _export(asked: argparse.Namespace) -> None:
    if (asked.dry_run or asked.private) and not asked.push:
        asked.problems.append("--dry-run and --private belong to --push OWNER/NAME")
    _stop_at(asked.problems)
    from invdiff.app.export import export
    from invdiff.engine.export import hub

    if asked.push:
        hub.require_name(asked.push)  # before the work
    options = {name: getattr(asked, name) for name in ("model", "strength", "verify", "audit")}
    done = export(asked.source, asked.out, asked.formats, repo=asked.push, **options)
    for line in done.checks or (f"written: {', '.join(done.written)}",):
        print(line)
    print(done.folder)
    if asked.push:
        upload = hub.upload_plan(done.folder, asked.push, asked.private)
        print(f"{'would upload' if asked.dry_run else 'uploading'} {upload}", flush=True)
        if not asked.dry_run:
            print(hub.push(upload))


def _doctor(asked: argparse.Namespace) -> None:
    from invdiff.app.cli.checkup import checkup_text
    from invdiff.engine.preflight.doctor import examine

    asked.out = None
    _stop_at(asked.problems)
    config = _resolve(asked) if asked.config or asked.preset or asked.overrides else None
    found = examine(config)
    print(json.dumps(found.record(), indent=1) if asked.json else checkup_text(found), flush=True)
    if found.problems:
        raise RunError(found.summary())


def _config(asked: argparse.Namespace) -> None:
    asked.out = None
    config = _resolve(asked)
    if asked.schema:
        print(json.dumps(configuration.schema(), indent=1))
    else:
        print(configuration.dump(config, comments=True), end="")


def _resolve(asked: argparse.Namespace) -> Config:
    """File or preset with overrides; without either, those of the run or (`config`) defaults."""
    problems, source, config = list(asked.problems), None, None
    try:
        source = _source(asked)
    except ConfigError as error:
        problems += error.problems
    named = asked.preset is not None or asked.config is not None
    try:
        if source is None or named:
            config = configuration.load(source, asked.overrides)
        else:
            config = configuration.load_run(source, asked.overrides)
    except ConfigError as error:
        problems += error.problems
    _stop_at(problems)
    assert config is not None, "a configuration without problems was loaded"
    return config


def _source(asked: argparse.Namespace) -> Path | None:
    if asked.preset is not None:
        return configuration.preset_path(asked.preset)
    if asked.config is not None:
        path: Path = asked.config
        return path
    if asked.out is None:
        return None
    if RunFolder.is_run(asked.out):
        out: Path = asked.out
        return out / "config.toml"
    if asked.verb in ("run", STAGES[0]):
        raise ConfigError(f"{asked.out} is a new run: name its settings with --config or --preset")
    return None


def _stop_at(problems: list[str]) -> None:
    if problems:
        raise UsageError(*dict.fromkeys(problems))


_DATA_ACTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "build": data_build.build,
    "check": data_check.check,
    "classifier": data_classifier.learn,
    "prepare": data_prepare.prepare,
}

_VERBS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": _demo,
    "run": _all_stages,
    "export": _export,
    "augment": _augment,
    "data": _data,
    "benchmark": _benchmark,
    "doctor": _doctor,
    "config": _config,
    "weights": _weights,
    **dict.fromkeys(STAGE_VERBS, _one_stage),
    "evaluate": _evaluate,
}
