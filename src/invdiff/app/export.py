"""``invdiff export``: the adapter's files, their check, the card, and the way to the hub."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invdiff.app.report import inputs as report
from invdiff.app.report.quantities import quoted
from invdiff.app.report.rendering import render, render_lines
from invdiff.engine.export import formats as engine
from invdiff.engine.export import hub
from invdiff.engine.export.formats import AdapterSource
from invdiff.engine.storage.files import new_folder, read_json, write_json, write_text
from invdiff.model.formats import kohya
from invdiff.model.formats.modelspec import Facts
from invdiff.model.formats.verify import Check
from invdiff.model.lora import adapter_file
from invdiff.model.sizing.description import Description

AUDIT = "report.html"


@dataclass(frozen=True)
class Exported:
    """What an export wrote: the folder, its LoRA files and folders, and the checks of them."""

    folder: Path
    written: tuple[str, ...]
    checks: tuple[Check, ...]


def export(
    source: str | Path,
    out: str | Path,
    formats: Sequence[str] = (),
    *,
    model: str | None = None,
    pipeline: Any | None = None,
    strength: float | None = None,
    verify: bool = False,
    audit: str | None = None,
    repo: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Exported:
    """Write an adapter for other tools into the new folder ``out``, whole or not at all.

    Args:
        source: a run folder, or an adapter folder.
        out: the folder to make.
        formats: of "diffusers", "kohya", "peft" and "merged"; by default the family's LoRA formats.
        model: the base model, where the run or the adapter's header doesn't name it.
        pipeline: the base model, loaded; used instead of ``model`` and left as it was.
        strength: the adapter strength that is in the files, where other programs draw at weight 1;
            by default the one of the run's pictures, which is the calibrated one.
        verify: load every file again and compare pictures.
        audit: address of the audit; by default the run's report.html, which is copied.
        repo: repository the card is written for, as OWNER/NAME.
        options: arguments for the pipeline when it draws pictures to verify, as
            ``{"height": 256, "width": 256}``.

    Raises:
        ConfigError, ModelError, RunError: nothing can be exported, or a file did not pass.
    """
    found = engine.locate_adapter(Path(source), model, strength)
    base = engine.base_of(found, pipeline)
    chosen = engine.require_formats(formats, base)
    facts = _facts(found, audit or _audit(found, repo))
    own = pipeline is not None
    if not own and (verify or engine.MERGED in chosen):
        pipeline = engine.base_pipeline(found)
    with new_folder(Path(out)) as folder:
        written = engine.write_formats(found, folder, chosen, base, facts, pipeline, own)
        checks: list[Check] = []
        if verify:
            checks = engine.verify_files(found, folder, written, facts, pipeline, options)
            write_json(folder / "verification.json", [check.record() for check in checks])
        if found.run and (found.run.path / AUDIT).is_file():
            shutil.copyfile(found.run.path / AUDIT, folder / AUDIT)
        told = {"facts": facts, "written": written, "checks": checks, "repo": repo}
        write_text(folder / "README.md", _card(found, base, told))
    return Exported(Path(out), tuple(written), tuple(checks))


def _facts(source: AdapterSource, audit: str) -> Facts:
    date = ""
    if source.run is not None:
        date = str(read_json(source.run.path / "stages" / "train.json").get("done", ""))
    base = engine.public_name(source.base)
    return Facts(
        title="InvDiff adapter",
        description=f"A LoRA for {base or 'its base model'}: the groups that were inferred within "
        "each prompt are sampled in more equal shares. It mitigates the skew that was found; what "
        "was not looked for stays as it was.",
        strength=source.strength,
        window=source.window,
        scale=source.scale,
        audit=audit,
        date=date,
    )


def _audit(source: AdapterSource, repo: str | None) -> str:
    if source.run is None or not (source.run.path / AUDIT).is_file():
        return "none was exported with it"
    return hub.address(repo, AUDIT) if repo else f"{AUDIT} beside this file"


def _card(source: AdapterSource, base: Description, told: dict[str, Any]) -> str:
    """README.md: what the adapter is, what was found and measured, how to load it.

    The first lines are what the model hub reads; ``template:sd-lora`` gives the page its gallery.
    """
    run = report.read(source.run) if source.run else None
    names = {name: name for name in (run.prompts if run else ())}
    limits = render_lines("run_limits.txt.j2", {"run": run}) if run else []
    if run and run.discovery.prompt_groups.get("by") == "meaning":
        # Such a group is called by the caption of a picture, which is not for everybody.
        names = {name: f"prompt group {k + 1}" for k, name in enumerate(names)}
        for name, number in names.items():
            limits = [line.replace(quoted(name), number) for line in limits]
    context = {
        "run": run,
        "names": names,
        "confidence": run.confidence if run else None,
        "limits": limits,
        "reported": source.reported,
        "exact": source.exact,
        "base": engine.public_name(source.base),
        "pipeline": base.pipeline,
        "component": base.component,
        "diffusers_file": adapter_file.FILE,
        "kohya_file": kohya.FILE,
        "peft_file": engine.FORMATS["peft"],
        "merged_folder": engine.MERGED,
    }
    return render("model_card.md.j2", context | told)
