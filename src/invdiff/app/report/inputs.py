"""What the report knows: the typed results of one run folder, and what its pages ask of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from invdiff.app.report.facts import ARMS, Arm
from invdiff.app.report.quantities import Quantity
from invdiff.engine.run.records import (
    Attributes,
    Calibration,
    Discovery,
    Metrics,
    PromptFindings,
    Training,
)
from invdiff.engine.run.results import Results
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings.config import dump
from invdiff.engine.storage.files import read_json
from invdiff.engine.storage.seals import Seals

HASHED = (
    "adapter/pytorch_lora_weights.safetensors",
    "groups.parquet",
    "scores.parquet",
    "samples.parquet",
    "metrics.json",
)


@dataclass(frozen=True)
class Inputs:
    """The contents of a run folder. Only ``discovery`` is always there; the rest may be empty."""

    path: Path
    config: Any
    discovery: Discovery
    groups: Mapping[str, Sequence[Any]]
    attributes: Attributes
    training: Training | None
    calibration: Calibration | None
    samples: Mapping[str, Sequence[Any]]
    metrics: Metrics
    comparison: Mapping[str, Any]
    quarantined: Sequence[Sequence[str]]
    environment: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]]
    config_text: str

    @property
    def prompts(self) -> Mapping[str, PromptFindings]:
        """What discovery says about each prompt of the training data."""
        return self.discovery.prompts

    @property
    def found(self) -> tuple[str, ...]:
        """The prompts in which there is something to balance."""
        return tuple(prompt for prompt, entry in self.prompts.items() if entry.found)

    @property
    def left_alone(self) -> tuple[str, ...]:
        """The prompts whose split is about even."""
        return tuple(prompt for prompt, entry in self.prompts.items() if entry.left_alone)

    @property
    def missed(self) -> tuple[str, ...]:
        """The prompts in which no groups stood out."""
        seen = (*self.found, *self.left_alone)
        return tuple(prompt for prompt in self.prompts if prompt not in seen)

    @property
    def most_groups(self) -> int:
        """The largest number of groups of a prompt, at least 2."""
        return max(2, *(len(entry.groups) for entry in self.prompts.values()))

    @property
    def group_names(self) -> tuple[str, ...]:
        """What the groups are called over all prompts."""
        return tuple(group_name(at, self.most_groups) for at in range(self.most_groups))

    def group_name(self, prompt: str, at: int) -> str:
        """What a group of a prompt is called; over all prompts it stands for no label."""
        groups = self.prompts[prompt].groups if prompt in self.prompts else ()
        if at < len(groups):
            return group_name(at, len(groups), groups[at].label or "")
        return self.group_names[at]

    def under(self, prompt: str) -> Quantity:
        """The share of all groups of a prompt but the first."""
        groups = self.prompts[prompt].groups
        if len(groups) == 2:
            return Quantity.of(groups[1], "share")
        if not groups:
            return Quantity()
        known = Quantity.of(groups[0], "share")
        ends = (known.value, known.high, known.low)
        value, low, high = (None if end is None else 1 - end for end in ends)
        return Quantity(value, low, high)

    @property
    def best_reliability(self) -> float | None:
        """That of the best noise level."""
        return max((v for v in self.discovery.reliability if v is not None), default=None)

    @property
    def sampled_prompts(self) -> tuple[str, ...]:
        """The prompts that images were made for, in the order of the samples."""
        return tuple(dict.fromkeys(self.samples.get("prompt") or ()))

    @property
    def trained(self) -> bool:
        """Whether an adapter was trained; with nothing to balance it is not."""
        return self.training is not None and not self.training.skipped

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The risks of the groups and the worst-case loss bound, before and after."""
        return self.training.certificate if self.training else None

    @property
    def calibrated(self) -> Calibration | None:
        """How the adapter strength was chosen; None where no gap was estimated."""
        return self.calibration if self.calibration and self.calibration.curve else None

    @property
    def confidence(self) -> float:
        """The level of every interval of the run."""
        return float(self.metrics.protocol.get("confidence", 0.95))

    @cached_property
    def arms(self) -> Mapping[tuple[str, str], Arm]:
        """(model, guidance scale) -> what was measured; scales as metrics.json names them."""
        return {
            (name, scale): Arm.of(name, entry)
            for name in ARMS
            for scale, entry in self.metrics.arms.get(name, {}).items()
            if entry
        }

    @property
    def scales(self) -> tuple[str, ...]:
        """The guidance scales that were measured, lowest first."""
        return tuple(sorted({scale for _, scale in self.arms}, key=float))

    @property
    def columns(self) -> list[tuple[str, Arm]]:
        """Scale and measurements of every model at every scale, in the order of tables."""
        keys = [(name, scale) for scale in self.scales for name in ARMS]
        return [(key[1], self.arms[key]) for key in keys if key in self.arms]

    def pairs(self, figure: str) -> list[tuple[str, Quantity, Quantity]]:
        """Scale and a figure of the base and of the guided model, where both were measured."""
        rows = ((scale, *self.both(scale, figure)) for scale in self.scales)
        return [row for row in rows if row[1].value is not None and row[2].value is not None]

    def both(self, scale: str, figure: str) -> tuple[Quantity, Quantity]:
        """A figure of both models at one scale; not defined where it was not measured."""
        base, guided = (self.arms.get((name, scale)) for name in ARMS)
        return getattr(base, figure, Quantity()), getattr(guided, figure, Quantity())

    def paired(self, scale: str, figure: str) -> Any:
        """A figure of pairs of one seed; None where it was not measured."""
        return (self.metrics.paired.get(scale) or {}).get(figure)

    def difference(self, scale: str) -> Quantity:
        """Bias of the adapted model minus that of the base model, of pairs of one seed."""
        return -Quantity.of(self.paired(scale, "bias_reduction"))

    @property
    def kept(self) -> Mapping[str, Mapping[str, Any]]:
        """Scale -> where the prompt names a class that the base shows, whether guided ones do."""
        found = {scale: self.paired(scale, "explicit_kept") for scale in self.scales}
        return {scale: kept for scale, kept in found.items() if kept}

    @property
    def explicit(self) -> list[Mapping[str, Any]]:
        """What ``columns`` show of prompts that name a class, and then ``kept``; all or none."""
        known = [*(arm.explicit for _, arm in self.columns), *self.kept.values()]
        return known if all(known) else []

    @property
    def has_quality(self) -> bool:
        """Whether any figure of quality was measured."""
        return any(arm.has_quality for arm in self.arms.values())

    @property
    def manifold_reference(self) -> str:
        """The set that recall and precision were measured against."""
        known = [one for _, arm in self.columns for one in arm.manifolds.values()]
        return next((one["reference"] for one in known if one.get("reference")), "reference")

    @property
    def has_shares(self) -> bool:
        """Whether an attribute classifier looked at the images."""
        return any(arm.shares for arm in self.arms.values())

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the attribute whose shares were measured."""
        shares = [entry for arm in self.arms.values() for entry in arm.shares.values()]
        return tuple(sorted({name for entry in shares for name in entry}))

    @cached_property
    def shown_classes(self) -> tuple[str, ...]:
        """Of two classes the more frequent one is enough: the other is what is left."""
        if len(self.classes) != 2:
            return self.classes
        base = [arm for (name, _), arm in self.arms.items() if name == "base"]
        known = [one for arm in base for entry in arm.shares.values() for one in entry.items()]
        totals = {
            name: sum(one.count or 0 for n, one in known if n == name) for name in self.classes
        }
        return (max(self.classes, key=lambda name: totals[name]),)

    def share_prompts(self, *scales: str) -> tuple[str, ...]:
        """The prompts whose shares were measured at any of ``scales``."""
        known = [arm.shares for scale, arm in self.columns if scale in scales]
        return tuple(dict.fromkeys(prompt for shares in known for prompt in shares))

    def most_frequent_class(self, scale: str, prompt: str) -> str:
        """The class with the largest share before; after, where before was not measured."""
        known = [arm.shares.get(prompt) for at, arm in self.columns if at == scale]
        shares = next(one for one in known if one)
        return max(shares, key=lambda name: shares[name].value or 0.0)

    def share(self, name: str, scale: str, prompt: str, klass: str) -> Quantity:
        """The share of a class; not defined where it was not measured."""
        arm = self.arms.get((name, scale))
        return arm.shares.get(prompt, {}).get(klass, Quantity()) if arm else Quantity()

    @property
    def attribute(self) -> str:
        """The name of the attribute that was measured, as the classifier calls it."""
        if named := self.metrics.protocol.get("attribute"):
            return str(named)
        known, wanted = (self.metrics.classifier or {}).get("attributes") or {}, set(self.classes)
        return next((name for name, a in known.items() if wanted <= set(a["classes"])), "attribute")

    @property
    def strength_curve(self) -> list[tuple[float, Quantity, Quantity]]:
        """Strength, estimated gap and the classifier's Bias where both were measured."""
        points = sorted(self.metrics.strength_curve or (), key=lambda point: point["strength"])
        return [
            (one["strength"], Quantity.of(one["estimated"], "gap"), Quantity.of(one["classified"]))
            for one in points
        ]

    @property
    def versions(self) -> dict[str, str]:
        """Seed, software and models that the figures depend on."""
        known, protocol = self.environment, self.metrics.protocol
        seen = protocol.get("versions") or {}
        facts = {"seed": self.config.seed}
        facts |= {key: known.get(key) for key in ("python", "platform", "processors", "pipeline")}
        facts |= known.get("versions") or {}
        facts |= {f"classifier ({name})": v for name, v in seen.items() if name not in facts}
        facts["feature extractor"] = protocol.get("extractor")
        return {key: str(value) for key, value in facts.items() if value is not None}

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took, but for the report itself."""
        known = {stage: self.stages.get(stage, {}) for stage in STAGES if stage != "report"}
        return {stage: done["seconds"] for stage, done in known.items() if "seconds" in done}

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of what a second run has to reproduce, by file."""
        known = Seals(self.path).of(HASHED)
        made = {name: known[name] for name in HASHED if name in known}
        extractor = self.metrics.protocol.get("extractor_sha256")
        return made | ({"feature extractor": extractor} if extractor else {})


def group_name(group: int, groups: int, label: str = "") -> str:
    """What group ``group`` of ``groups`` is called."""
    if groups > 2:
        return f"group {group}" + (f" ({label})" if label else "")
    return ("over-represented group", "under-represented group")[group]


def read(run: Any) -> Inputs:
    """Read the folder of ``run`` (``.path``, ``.config``); RunError when a file is damaged."""
    path, results = Path(run.path), Results(Path(run.path))

    def optional(name: str, absent: Any) -> Any:
        return read_json(path / name) if results.has(name) else absent

    samples = results.samples if results.has("samples.parquet") else {}
    return Inputs(
        path=path,
        config=run.config,
        discovery=results.discovery,
        groups=results.groups.columns() if results.has("groups.parquet") else {},
        attributes=results.attributes if results.has(Attributes.FILE) else Attributes(),
        training=results.training if results.has(Training.FILE) else None,
        calibration=results.calibration if results.has(Calibration.FILE) else None,
        samples={name: column.tolist() for name, column in samples.items()},
        metrics=results.metrics if results.has(Metrics.FILE) else Metrics(),
        comparison=optional("comparison.json", {}),
        quarantined=optional("quarantine.json", ()),
        environment=optional("environment.json", {}),
        stages={file.stem: read_json(file) for file in sorted(path.glob("stages/*.json"))},
        config_text=dump(run.config),
    )
