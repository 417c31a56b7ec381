"""What the verbs do that make a run or work with one."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from invdiff.app.api import Run
from invdiff.app.cli.parser import Asked
from invdiff.app.cli.summary import checkup_text, plan_text, summary
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.config import Config
from invdiff.errors import ConfigError, RunError
from invdiff.terminal import aligned

SMOKE = "smoke run: it shows that everything works, its figures show nothing"


def demo(asked: Asked) -> None:
    """All stages on the embedded faces."""
    asked.config, asked.preset = None, "faces-quick" if asked.quick else "faces"
    if asked.quick:
        print(SMOKE)
    all_stages(asked)
    if asked.quick and not asked.dry_run:
        print(SMOKE)


def all_stages(asked: Asked) -> None:
    """Every stage in its order, or the plan of them."""
    config = _resolve(asked, asked.out)
    if asked.dry_run:
        print(plan_text(asked.out, config))
        return
    run = Run(asked.out, config, redo=asked.redo)
    if asked.redo and not run.folder.changed:
        run.folder.clear(STAGES[0])
    for number, stage in enumerate(STAGES, 1):
        before = " (done before)" if run.done(stage) else ""
        print(f"[{number}/{len(STAGES)}] {stage}{before}", flush=True)
        report = run.do(stage)
    print(summary(run.path))
    print(f"report: {report}")


def one_stage(asked: Asked) -> None:
    """The stage that the verb is named for."""
    stage = asked.verb
    config = _resolve(asked, asked.out)
    if stage != STAGES[0]:
        RunFolder.read(asked.out).require(STAGES[STAGES.index(stage) - 1], by=stage)
    run = Run(asked.out, config, redo=asked.redo)
    if asked.redo:
        run.folder.clear(stage)
    before = run.done(stage)
    result = run.do(stage)
    again = "done before, nothing to do (--redo does it again)"
    print(f"{stage}: {again if before else 'done'}")
    print(result)


def export_adapter(asked: Asked) -> None:
    """The adapter's files for other programs."""
    wrong = (asked.dry_run or asked.private) and not asked.push
    asked.stop_at(*["--dry-run and --private belong to --push OWNER/NAME"] if wrong else [])
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


def augment(asked: Asked) -> None:
    """A training set with even inferred groups from the guided sampler."""
    from invdiff.engine.augmentation.augment import augment as make
    from invdiff.engine.workflow import session_of

    options = {"scale": asked.scale, "strength": asked.strength}
    run = RunFolder.read(asked.run)
    run.require("train", by="augment")
    record = make(session_of(run), asked.out, asked.images_per_prompt, **options)
    print(_synthetic(record["prompts"]))
    print(f"set: {asked.out}")


def _synthetic(prompts: Mapping[str, Mapping[str, Any]]) -> str:
    """Pictures of each prompt, real and synthetic by inferred group."""
    rows = [["prompt", "real", "synthetic", "together, by inferred group", "drawn"]]
    for prompt, entry in prompts.items():
        real, synthetic = entry["real"], entry["synthetic"]
        groups = sorted({*real, *synthetic})
        together = [f"{real.get(g, 0) + synthetic.get(g, 0)}" for g in groups]
        counts = [sum(real.values()), sum(synthetic.values())]
        rows.append([prompt, *map(str, counts), " / ".join(together), str(entry["drawn"])])
    return aligned(rows)


def doctor(asked: Asked) -> None:
    """Versions, devices and what a run would need."""
    asked.stop_at()
    from invdiff.engine.preflight.doctor import examine

    config = _resolve(asked) if asked.config or asked.preset or asked.overrides else None
    found = examine(config)
    print(json.dumps(found.record(), indent=1) if asked.json else checkup_text(found), flush=True)
    if found.problems:
        raise RunError(found.summary())


def config(asked: Asked) -> None:
    """The settings as TOML, or their JSON schema."""
    settings = _resolve(asked)
    if asked.schema:
        print(json.dumps(configuration.schema(), indent=1))
    else:
        print(configuration.dump(settings, comments=True), end="")


def _resolve(asked: Asked, out: Path | None = None) -> Config:
    """File or preset with overrides; without either those of the run ``out``, or the defaults."""
    problems: list[str] = []
    source: Path | None = asked.config
    read: Callable[..., Config] = configuration.load
    try:
        if asked.preset is not None:
            source = configuration.preset_path(asked.preset)
        elif source is None and out is not None and RunFolder.is_run(out):
            source, read = out / "config.toml", configuration.load_run
        elif source is None and asked.verb in ("run", STAGES[0]):
            raise ConfigError(f"{out} is a new run: name its settings with --config or --preset")
    except ConfigError as error:
        problems += error.problems
    try:
        found = read(source, asked.overrides)
    except ConfigError as error:
        problems += error.problems
    asked.stop_at(*problems)
    return found
