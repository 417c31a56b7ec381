"""Sections 4 to 6: the certificate, the reference rows, how to reproduce the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from invdiff.app.report import plots
from invdiff.app.report.inputs import Inputs, hashes
from invdiff.app.report.sides import side
from invdiff.app.report.words import (
    Cell,
    Estimate,
    Table,
    cell,
    count,
    number,
    scale_name,
    significant,
    span,
)
from invdiff.engine.run.stages import STAGES


@dataclass(frozen=True)
class Certificate:
    """The bound on the risk of any mixture of the inferred groups, before and after."""

    before: str
    after: str
    count: int
    drawing: Markup
    groups: Table
    bounds: Table


def certificate(inputs: Inputs) -> Certificate | None:
    """Section 4; None when nothing was trained."""
    entry = (inputs.training or {}).get("certificate")
    if not entry:
        return None
    before, after = entry["before"], entry["after"]
    rows = [
        plots.Row(_group_name(inputs, old), Estimate.of(old, "risk"), Estimate.of(new, "risk"))
        for old, new in zip(before["groups"], after["groups"], strict=True)
    ]
    axis = "denoising risk (lower is better)"
    alt = "Risk of each inferred group before and after; the numbers are in the table"
    return Certificate(
        before=significant(before["bound"], 4),
        after=significant(after["bound"], 4),
        count=sum(row.before.value is not None for row in rows),
        drawing=plots.dumbbell(rows, "risks", alt, axis, text=lambda v: significant(v, 4)),
        groups=_risks(inputs, before, after),
        bounds=_bounds(before, after),
    )


def _group_name(inputs: Inputs, group: Mapping[str, Any]) -> str:
    return f"{group['prompt']}, {_side(inputs, group).removesuffix(' the model')}"


def _side(inputs: Inputs, group: Mapping[str, Any]) -> str:
    """The name of a group of the certificate; over all prompts together it stands for no label."""
    if entry := inputs.prompts.get(group["prompt"]):
        return side(entry["groups"], group["group"])
    count = max(len(entry["groups"]) for entry in inputs.prompts.values())
    return side([{}] * count, group["group"])


def _risks(inputs: Inputs, before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    mixture = after.get("worst_mixture") or ()
    weights = mixture if len(mixture) == len(after["groups"]) else [None] * len(after["groups"])
    rows = []
    for old, new, weight in zip(before["groups"], after["groups"], weights, strict=True):
        risks = []
        for group in (old, new):
            risk = Estimate.of(group, "risk")
            risks.append(Cell(significant(risk.value, 4), span(risk, 4)))
        name = Cell(_side(inputs, old))
        shown = Cell(number(weight) if weight is not None else "\N{EN DASH}")
        rows.append((Cell(old["prompt"]), name, Cell(count(old["images"])), *risks, shown))
    head = ("Prompt", "Inferred group", "Images", "Base", "Guided", "Weight in worst mixture")
    return Table(
        "Denoising risk of each inferred group",
        head,
        tuple(rows),
        "With intervals and the number of training images.",
    )


def _bounds(before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    names = {
        "mean": "Mean of the group risks",
        "variance": "Variance of the group risks",
        "worst": "Risk of the worst mixture",
        "bound": "Bound for any mixture",
    }
    rows = [
        (Cell(name), *(Cell(significant(when.get(key), 4)) for when in (before, after)))
        for key, name in names.items()
    ]
    return Table("The certificate", ("", "Base", "Guided"), tuple(rows))


def comparison(inputs: Inputs) -> Table | None:
    """Section 5: other ways to the same goal, only where the run has measured them."""
    entries = (inputs.comparison or {}).get("rows") or ()
    rows = [
        (
            Cell(entry["name"]),
            Cell(scale_name(entry["scale"])),
            cell(Estimate.of(entry.get("bias"))),
            Cell(number(_value(entry.get("fidelity")), 3)),
            Cell(number(_value(entry.get("frechet")), 1)),
        )
        for entry in entries
    ]
    head = ("Row", "Guidance scale", "Bias", "Prompt fidelity", "Fréchet distance")
    note = "The same measurements with more or less knowledge than this run had."
    note = f"{note} {(inputs.comparison or {}).get('note', '')}".strip()
    return Table("Other ways to the same goal", head, tuple(rows), note) if rows else None


def _value(entry: Any) -> float | None:
    """A number that may stand alone or come as {"value": ...}."""
    return entry.get("value") if isinstance(entry, Mapping) else entry


@dataclass(frozen=True)
class Reproduce:
    """All that a second run needs, and what to compare it with."""

    command: str
    config: str
    tables: tuple[Table, ...]


def reproduce(inputs: Inputs) -> Reproduce:
    """Section 6."""
    return Reproduce(
        command="invdiff run --config config.toml --out another-folder",
        config=inputs.config_text.strip(),
        tables=tuple(t for t in (_versions(inputs), _times(inputs), _hashes(inputs)) if t.rows),
    )


def _versions(inputs: Inputs) -> Table:
    known = inputs.environment
    facts: dict[str, Any] = {"seed": inputs.config.seed}
    facts |= {key: known.get(key) for key in ("python", "platform", "processors", "pipeline")}
    facts |= known.get("versions") or {}
    protocol = (inputs.metrics or {}).get("protocol") or {}
    facts |= {
        f"classifier ({k})": v
        for k, v in (protocol.get("versions") or {}).items()
        if k not in facts
    }
    facts["feature extractor"] = protocol.get("extractor")
    rows = [(Cell(key), Cell(str(value))) for key, value in facts.items() if value is not None]
    return Table("Seed and versions", ("", "Value"), tuple(rows), numeric=False)


def _times(inputs: Inputs) -> Table:
    rows = [
        (Cell(stage), Cell(number(inputs.stages[stage]["seconds"], 1)))
        for stage in STAGES
        if stage != "report" and "seconds" in inputs.stages.get(stage, {})
    ]
    return Table("Seconds of each stage", ("Stage", "Seconds"), tuple(rows))


def _hashes(inputs: Inputs) -> Table:
    rows = [(Cell(name), Cell(digest)) for name, digest in hashes(inputs.path).items()]
    protocol = (inputs.metrics or {}).get("protocol") or {}
    if digest := protocol.get("extractor_sha256"):
        rows.append((Cell("feature extractor"), Cell(digest)))
    return Table("SHA-256 of what the run made", ("File", "SHA-256"), tuple(rows), numeric=False)
