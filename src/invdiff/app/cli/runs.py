"""What the verbs do that make a run or work with one."""

import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from invdiff.app.api import Run
from invdiff.app.cli.parser import Asked
from invdiff.app.cli.summary import checkup_text, outcome, outcome_record, plan_text, strength_line
from invdiff.data.samples import plural
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.schema import Config
from invdiff.engine.storage.files import read_json
from invdiff.errors import ConfigError, Interrupted, RunError
from invdiff.terminal import Bar, aligned

OF_A_NEW_RUN = {"config.toml", "environment.json", "events.jsonl", ".lock"}
SMOKE = "smoke run: it shows that everything works, its figures show nothing"


def demo(asked: Asked) -> None:
    """All stages on the embedded faces."""
    asked.config, asked.preset = None, "faces-quick" if asked.quick else "faces"
    if asked.quick:
        _on_the_way(asked, SMOKE)
    all_stages(asked)
    if asked.quick and not asked.dry_run:
        print(SMOKE, file=sys.stderr if asked.json else sys.stdout)


def all_stages(asked: Asked) -> None:
    """Every stage in its order, or the plan of them."""
    if asked.dry_run and asked.json:
        asked.problems.append("--json tells what a run found, and --dry-run finds nothing")
    config = _resolve(asked, asked.out)
    if asked.dry_run:
        print(plan_text(asked.out, config))
        return
    with _opened(asked, config) as run:
        if asked.redo and not run.folder.changed:
            run.folder.clear(STAGES[0])
        for number, stage in enumerate(STAGES, 1):
            before = " (done before)" if run.done(stage) else ""
            _on_the_way(asked, f"[{number}/{len(STAGES)}] {stage}{before}")
            _do(run, stage, asked)
    if asked.json:
        print(json.dumps(outcome_record(run.path), indent=1))
        return
    print(outcome(run.path))
    print(f"report: {run.path / 'report.html'}")


def one_stage(asked: Asked) -> None:
    """The stage that the verb is named for."""
    stage = asked.verb
    if stage != STAGES[0]:
        _name_the_run(asked)
    config = _resolve(asked, asked.out)
    if stage != STAGES[0]:
        RunFolder.read(asked.out).require(STAGES[STAGES.index(stage) - 1], by=stage)
    with _opened(asked, config) as run:
        if asked.redo:
            run.folder.clear(stage)
        before = run.done(stage)
        result = _do(run, stage, asked)
    again = "done before, nothing to do (--redo does it again)"
    _on_the_way(asked, f"{stage}: {again if before else 'done'}")
    if stage == "train":
        _on_the_way(asked, strength_line(run.path))
    print(result)


def _name_the_run(asked: Asked) -> None:
    """The run is named first, or by ``--out`` as in earlier versions."""
    if asked.out is None:
        if asked.run is None:
            asked.stop_at(
                f"{asked.verb} needs a run folder, as in `invdiff {asked.verb} runs/mine`"
            )
        asked.out = asked.run
    elif asked.run is not None:
        asked.stop_at(f"{asked.run} and --out {asked.out}: name the run once")
    else:
        words = shlex.join(["invdiff", asked.verb, str(asked.out)])
        print(f"--out names the run here, as `{words}` does", file=sys.stderr)


def _do(run: Run, stage: str, asked: Asked) -> Path:
    result = run.do(stage)
    if asked.verbose:
        mark = read_json(run.path / "stages" / f"{stage}.json")
        _on_the_way(asked, f"{stage} took {mark['seconds']:,.0f} seconds")
    return result


def _on_the_way(asked: Asked, text: str) -> None:
    """What is no result."""
    if not asked.quiet:
        print(text, file=sys.stderr if getattr(asked, "json", False) else sys.stdout, flush=True)


@contextmanager
def _opened(asked: Asked, config: Config) -> Iterator[Run]:
    """The run in ``--out``; a new folder in which nothing was begun goes again after a mistake."""
    Bar.hidden = asked.quiet
    if asked.verbose:
        logging.basicConfig(level=logging.INFO)
        os.environ |= {f"{library}_VERBOSITY": "info" for library in ("DIFFUSERS", "TRANSFORMERS")}
    new, there = not RunFolder.is_run(asked.out), asked.out.exists()
    run = Run(asked.out, config, redo=asked.redo)
    try:
        yield run
    except Exception as error:
        files = {path.name for path in run.path.rglob("*") if path.is_file()}
        if new and files <= OF_A_NEW_RUN and not isinstance(error, Interrupted):
            shutil.rmtree(run.path)
            if there:
                run.path.mkdir()
        raise
    finally:
        Bar.hidden = False


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
    run.require_inputs()
    record = make(session_of(run), asked.out, asked.images_per_prompt, **options)
    print(_synthetic(record["prompts"]))
    if plain := record.get("one_colour"):
        told = f"note: {len(plain)} drawn pictures are of one colour throughout, such as {plain[0]}"
        print(f"{told}: look at them before you train on them")
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
    print(json.dumps(asdict(found), indent=1) if asked.json else checkup_text(found), flush=True)
    if found.problems:
        raise RunError(f"{plural(len(found.problems), 'problem')} to fix, listed above")


def config(asked: Asked) -> None:
    """The settings as TOML, or their JSON schema."""
    settings = _resolve(asked)
    if asked.schema:
        print(json.dumps(configuration.schema(), indent=1))
    else:
        print(configuration.dump(settings, comments=True), end="")


def _resolve(asked: Asked, out: Path | None = None) -> Config:
    """Preset, file and overrides; without the first two those of the run ``out``, or defaults."""
    problems: list[str] = []
    read: Callable[..., Config] = partial(configuration.load, asked.config, preset=asked.preset)
    if asked.config is None and asked.preset is None:
        if out is not None and RunFolder.is_run(out):
            read = partial(configuration.load_run, out / "config.toml")
        elif asked.verb in ("run", STAGES[0]):
            problems.append(
                f"{out} is a new run: name its settings with --preset (sd15, sdxl and flux are for "
                "models of that size) or --config"
            )
    try:
        found = read(overrides=asked.overrides)
    except ConfigError as error:
        problems += error.problems
    asked.stop_at(*problems)
    return found
