"""The tables that the command line prints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invdiff.app.results import interval_of, shown, verdict_of
from invdiff.data.samples import plural
from invdiff.engine.preflight.doctor import Checkup
from invdiff.engine.preflight.memory import MemoryEstimate, estimate_memory
from invdiff.engine.preflight.plan import data_size, work_plan
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.records import Calibration, Discovery, Metrics, Training
from invdiff.engine.run.results import Results
from invdiff.engine.settings.config import Config
from invdiff.terminal import aligned, printable

MOST_PROMPTS = 12


def plan_text(out: Path, config: Config) -> str:
    """The stages with their work and whether they are done."""
    run = RunFolder.read(out) if RunFolder.is_run(out) else None
    data, needed = data_size(config.data), estimate_memory(config)
    works = work_plan(config, data, one_pass=bool(needed and needed.one_pass))
    lines = [f"plan for {out} (nothing is started)", f"data: {config.data.path}, {data}", ""]
    for work in works:
        amount = f"{work.passes:,}" if work.passes else "no"
        state = "done before" if run and run.done(work.stage) else ""
        lines.append(f"{work.stage:9} {amount:>12} denoiser passes  {state}".rstrip())
        lines.append(f"{'':9} {work.detail}")
    total = sum(work.passes for work in works if not (run and run.done(work.stage)))
    return "\n".join(
        [*lines, "", f"to do: {total:,} denoiser passes", "", *needs(config, needed, total)]
    )


def needs(config: Config, needed: MemoryEstimate | None, passes: int) -> list[str]:
    """Memory of each stage and the computation of ``passes``, with where the numbers are from."""
    if needed is None:
        return [
            f"memory: not known, {config.model.path} is not on this computer (`invdiff doctor` "
            "says how to get it)"
        ]
    work = passes * needed.operations
    return [
        memory_line(needed),
        model_line(needed),
        f"work: {work / 1e15:,.3g} PFLOP, {needed.operations / 1e12:,.3g} TFLOP a pass; an hour "
        f"for each {work / 3600 / 1e12:,.3g} TFLOP/s that the device sustains",
    ]


def memory_line(needed: MemoryEstimate) -> str:
    """The memory of each stage."""
    stages = ", ".join(f"{stage} {size(amount)}" for stage, amount in needed.memory.items())
    return f"memory: {stages} (estimated, {needed.dtype}, {needed.image_size} pixels)"


def model_line(needed: MemoryEstimate) -> str:
    """The size of the model and where it is known from."""
    return (
        f"model: {needed.pipeline}, {sum(needed.parameters.values()) / 1e6:,.0f} million "
        f"parameters and {needed.adapter / 1e6:,.1f} million of the adapter, from {needed.source}"
    )


def size(amount: int) -> str:
    """Bytes as people say them."""
    return f"{amount / 1e9:,.1f} GB" if amount >= 1e8 else f"{amount / 1e6:,.0f} MB"


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
    return "\n\n".join(block for block in blocks if block) or "no attribute classifier: no shares"


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


def checkup_text(found: Checkup) -> str:
    """The findings as lines, problems last."""
    versions = found.environment["versions"]
    libraries = ", ".join(f"{name} {known or 'missing'}" for name, known in versions.items())
    lines = [
        f"python: {found.environment['python']} on {found.environment['platform']}",
        f"libraries: {libraries}",
        *(f"extra {name}: {'there' if there else f'missing, pip install invdiff[{name}]'}"
          for name, there in found.extras.items()),
        *(f"device: {one.name}, {one.kind}, {size(one.memory) if one.memory else 'memory not told'}"
          for one in found.devices),
        f"free disk here: {size(found.free_disk)}",
        *(f"cached: {one['name']}, {size(one['bytes'])}" for one in found.cached),
    ]  # fmt: skip
    if not found.cached:
        lines.append("cached: no model of the hub")
    if found.model:
        lines.append(f"model: {found.model['name']}, {found.model['folder'] or 'not here'}")
    if found.data:
        lines.append(f"data: {found.data}")
    if found.estimate:
        lines += [memory_line(found.estimate), model_line(found.estimate)]
    return "\n".join([*lines, *(f"to mend: {problem}" for problem in found.problems)])
