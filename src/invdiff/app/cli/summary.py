"""The tables that the command line prints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invdiff.app.report.rendering import render
from invdiff.app.results import interval_of, shown, verdict_of
from invdiff.data.samples import plural
from invdiff.engine.preflight.doctor import Checkup
from invdiff.engine.preflight.memory import estimate_memory
from invdiff.engine.preflight.plan import data_size, work_plan
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.records import Calibration, Discovery, Metrics, Training
from invdiff.engine.run.results import Results
from invdiff.engine.settings.schema import Config
from invdiff.terminal import aligned, printable

MOST_PROMPTS = 12


def plan_text(out: Path, config: Config) -> str:
    """The stages with their work and whether they are done."""
    run = RunFolder.read(out) if RunFolder.is_run(out) else None
    data, needed = data_size(config.data), estimate_memory(config)
    works = work_plan(config, data, one_pass=bool(needed and needed.one_pass))
    done = [work.stage for work in works if run and run.done(work.stage)]
    passes = sum(work.passes for work in works if work.stage not in done)
    told = {"out": out, "config": config, "data": data, "works": works, "needed": needed}
    return render("plan.txt.j2", told | {"done": done, "passes": passes}).rstrip()


def checkup_text(found: Checkup) -> str:
    """The findings as lines, problems last."""
    return render("checkup.txt.j2", {"found": found}).rstrip()


def outcome(path: Path) -> str:
    """What a run has come to: groups, strength and gap, and shares where a classifier saw them."""
    results, lines = Results(path), []
    if results.has(Discovery.FILE):
        found, prompts = results.discovery.found, results.discovery.prompts
        lines.append(f"groups: found in {len(found)} of {len(prompts)} prompts")
        each = [f"  {printable(name)}: {verdict_of(entry)}" for name, entry in prompts.items()]
        lines += each[:MOST_PROMPTS]
        lines += [f"  and {len(each) - MOST_PROMPTS} more"] if len(each) > MOST_PROMPTS else []
    if results.has(Training.FILE):
        lines.append(strength_line(path))
    return "\n".join([*lines, summary(path)])


def outcome_record(path: Path) -> dict[str, Any]:
    """The same for another program, as it stands in the run's files (docs/reference/files.md)."""
    results = Results(path)
    record: dict[str, Any] = {"run": str(path), "report": str(path / "report.html")}
    for kind in (Discovery, Calibration, Metrics):
        if results.has(kind.FILE):
            record[Path(kind.FILE).stem] = getattr(results, kind.__name__.lower()).stored()
    return record


def summary(path: Path) -> str:
    """Shares and Bias before and after, for each guidance scale of ``metrics.json``."""
    arms = Results(path).metrics.arms
    base, guided = arms.get("base", {}), arms.get("guided", {})
    blocks = [_block(scale, base.get(scale, {}), guided.get(scale, {})) for scale in base | guided]
    return "\n".join(block for block in blocks if block) or "no attribute classifier: no shares"


def strength_line(path: Path) -> str:
    """The strength that calibration has chosen, and why, or that nothing was trained."""
    results = Results(path)
    if not results.has(Calibration.FILE) or results.training.skipped:
        return "nothing was trained: no adapter strength"
    return str(results.calibration)


def _block(scale: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """One scale; an arm that was not drawn is empty and shows as dashes."""
    rows: list[tuple[str, ...]] = [(f"guidance scale {scale}", "before", "after")]
    old, new = before.get("shares") or {}, after.get("shares") or {}
    for prompt, classes in (old or new).items():
        name = max(classes, key=lambda c: classes[c]["share"] or 0.0)
        shares = (interval_of(arm.get(prompt, {}).get(name), "share") for arm in (old, new))
        rows.append((f"{prompt}: {name}", *map(shown, shares)))
    if len(rows) == 1:
        return ""
    rows.append(("Bias", *(shown(interval_of(arm.get("bias"))) for arm in (before, after))))
    return f"\n{aligned(rows, numbers=False)}\n{_footnote(before, after)}"


def _footnote(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    parity = (after.get("bias") or before.get("bias") or {}).get("parity_value")
    level = "" if parity is None else f"; a balanced sampler shows Bias {parity:.2f} at this number"
    return (
        f"classifier-estimated, {plural(before.get('images', 0), 'picture')} before, "
        f"{after.get('images', 0):,} after, 95 % intervals{level}"
    )
