"""What the report knows: the files of one run folder, read once, as the facts its pages tell.

All parsing of a run's files for pages is here; templates and drawings see the facts only.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from invdiff.app.report.facts import (
    ARMS,
    Arm,
    CalibrationFacts,
    ExplicitPrompts,
    GapPoint,
    InferredGroup,
    PromptFacts,
)
from invdiff.app.report.quantities import Quantity, finite
from invdiff.engine.run.records import Calibration as CalibrationRecord
from invdiff.engine.run.records import Metrics, Training
from invdiff.engine.run.results import Results
from invdiff.engine.run.stages import STAGES
from invdiff.engine.storage.files import read_json

HASHED = (
    "adapter/pytorch_lora_weights.safetensors",
    "groups.parquet",
    "scores.parquet",
    "samples.parquet",
    "metrics.json",
)
LABEL_MEASURES = {
    "balanced_accuracy": "Balanced accuracy",
    "auc": "Area under the curve",
    "adjusted_rand": "Adjusted Rand index",
    "matched_accuracy": "Accuracy, matched",
}
DISCOVERY = ("score", "candidate", "candidates", "ranked_by", "reliability", "levels")


@dataclass(frozen=True)
class Inputs:
    """The contents of a run folder. Only ``discovery`` is always there."""

    path: Path
    config: Any
    discovery: Mapping[str, Any]
    groups: Mapping[str, Sequence[Any]]
    training: Mapping[str, Any] | None
    calibration: Mapping[str, Any] | None
    samples: Mapping[str, Sequence[Any]] | None
    metrics: Mapping[str, Any] | None
    comparison: Mapping[str, Any] | None
    quarantined: Sequence[Sequence[str]]
    environment: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]]
    config_text: str

    @cached_property
    def search(self) -> Mapping[str, Any]:
        """How the groups were found; None or empty where discovery does not say."""
        stability = self.discovery.get("stability") or {}
        return {
            **dict.fromkeys(DISCOVERY),
            **self.discovery,
            "agreement": finite(stability.get("agreement")),
            "runs": stability.get("runs"),
            "ranking": [
                entry
                for entry in self.discovery.get("ranking") or ()
                if "objective" in entry  # records of earlier versions do not say what they rank by
            ],
            "best_reliability": max(
                (v for v in self.discovery.get("reliability") or () if finite(v) is not None),
                default=None,
            ),
        }

    @cached_property
    def prompts(self) -> Mapping[str, PromptFacts]:
        """What discovery says about each prompt of the training data."""
        return {name: _prompt(entry) for name, entry in self.discovery["prompts"].items()}

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

    @property
    def sampled_prompts(self) -> tuple[str, ...]:
        """The prompts that images were made for, in the order of the samples."""
        return tuple(dict.fromkeys((self.samples or {}).get("prompt") or ()))

    @property
    def trained(self) -> bool:
        """Whether an adapter was trained; with nothing to balance it is not."""
        return self.training is not None and not self.training.get("skipped", False)

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The risks of the groups and the worst-case loss bound, before and after."""
        return (self.training or {}).get("certificate")

    def group_name(self, group: Mapping[str, Any]) -> str:
        """What a group of the certificate is called; over all prompts it stands for no label."""
        entry, at = self.prompts.get(group["prompt"]), group["group"]
        if entry is not None and at < len(entry.groups):
            return entry.groups[at].name
        return group_name(at, self.most_groups)

    @cached_property
    def calibrated(self) -> CalibrationFacts | None:
        """How the adapter strength was chosen; None where no gap was estimated."""
        entry = self.calibration
        if not entry or not entry.get("curve"):
            return None
        points = sorted(entry["curve"], key=lambda point: point["strength"])
        curve = (GapPoint(p["strength"], Quantity.of(p, "gap"), p.get("shares") or {})
                 for p in points)  # fmt: skip
        facts = (entry["guidance_scale"], entry["strength"], entry["tolerance"])
        return CalibrationFacts(*facts, entry.get("images_per_prompt"), tuple(curve))

    @property
    def protocol(self) -> Mapping[str, Any]:
        """How the images were measured; empty where they were not."""
        return (self.metrics or {}).get("protocol") or {}

    @property
    def confidence(self) -> float:
        """The level of every interval of the run."""
        return float(self.protocol.get("confidence", 0.95))

    @cached_property
    def arms(self) -> Mapping[tuple[str, str], Arm]:
        """(model, guidance scale) -> what was measured; scales as metrics.json names them."""
        arms = (self.metrics or {}).get("arms") or {}
        return {
            (name, scale): _arm(name, entry)
            for name in ARMS
            for scale, entry in (arms.get(name) or {}).items()
            if entry
        }

    @property
    def scales(self) -> tuple[str, ...]:
        """The guidance scales that were measured, lowest first."""
        return tuple(sorted({scale for _, scale in self.arms}, key=float))

    @property
    def columns(self) -> list[tuple[str, Arm]]:
        """Scale and measurements of every model at every scale, in the order of tables."""
        pairs = ((scale, self.arm(name, scale)) for scale in self.scales for name in ARMS)
        return [(scale, arm) for scale, arm in pairs if arm is not None]

    def arm(self, name: str, scale: str) -> Arm | None:
        """What was measured on the images of one model at one guidance scale."""
        return self.arms.get((name, scale))

    def pairs(self, figure: str) -> list[tuple[str, Quantity, Quantity]]:
        """Scale and a figure of the base and of the guided model, where both were measured."""
        known = []
        for scale in self.scales:
            before, after = (getattr(self.arm(name, scale), figure, Quantity()) for name in ARMS)
            if before.value is not None and after.value is not None:
                known.append((scale, before, after))
        return known

    def paired(self, scale: str) -> Quantity:
        """Bias of the base model minus Bias of the guided model, on the same seeds."""
        entry = ((self.metrics or {}).get("paired") or {}).get(scale) or {}
        return Quantity.of(entry.get("bias_reduction"))

    @cached_property
    def kept(self) -> Mapping[str, ExplicitPrompts]:
        """Scale -> where the prompt names a class that the base shows, whether guided ones do."""
        entries = (self.metrics or {}).get("paired") or {}
        known = {scale: _explicit((entries.get(scale) or {}).get("explicit_kept"))
                 for scale in self.scales}  # fmt: skip
        return {scale: kept for scale, kept in known.items() if kept}

    @property
    def explicit(self) -> list[ExplicitPrompts]:
        """What ``columns`` show of prompts that name a class, and then ``kept``; all or none."""
        known = [*(arm.explicit for _, arm in self.columns), *self.kept.values()]
        given = [one for one in known if one]
        return given if len(given) == len(known) else []

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
        entries = [entry for arm in base for entry in arm.shares.values()]
        totals = {
            name: sum(entry[name].count or 0 for entry in entries if name in entry)
            for name in self.classes
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

    def bias(self, name: str, scale: str) -> Quantity:
        """Bias of one model at one scale; not defined where it was not measured."""
        arm = self.arm(name, scale)
        return arm.bias if arm else Quantity()

    def share(self, name: str, scale: str, prompt: str, klass: str) -> Quantity:
        """The share of a class; not defined where it was not measured."""
        arm = self.arm(name, scale)
        return (arm.shares.get(prompt) or {}).get(klass, Quantity()) if arm else Quantity()

    @property
    def classifier(self) -> Mapping[str, Any]:
        """The attribute classifier; empty where none was used."""
        return (self.metrics or {}).get("classifier") or {}

    @property
    def attribute(self) -> str:
        """The name of the attribute that was measured, as the classifier calls it."""
        if named := self.protocol.get("attribute"):
            return str(named)
        known, wanted = self.classifier.get("attributes") or {}, set(self.classes)
        return next((name for name, a in known.items() if wanted <= set(a["classes"])), "attribute")

    @property
    def strength_curve(self) -> list[tuple[float, Quantity, Quantity]]:
        """Strength, estimated gap and the classifier's Bias where both were measured."""
        points = (self.metrics or {}).get("strength_curve") or []
        return [
            (one["strength"], Quantity.of(one["estimated"], "gap"), Quantity.of(one["classified"]))
            for one in sorted(points, key=lambda point: point["strength"])
        ]

    @property
    def label_agreement(self) -> Mapping[str, Mapping[str, float | None]]:
        """Title of a measure -> prompt -> agreement; only where the data carries labels."""
        measured = (self.metrics or {}).get("groups_vs_labels") or {}
        several = any(len(entry.groups) > 2 for entry in self.prompts.values())
        shown = list(LABEL_MEASURES)[: None if several else 2]
        return {LABEL_MEASURES[key]: measured.get(key) or {} for key in shown} if measured else {}

    @property
    def labelled_prompts(self) -> tuple[str, ...]:
        """The prompts whose groups were compared with labels."""
        return tuple(dict.fromkeys(p for known in self.label_agreement.values() for p in known))

    @property
    def reference_rows(self) -> list[dict[str, Any]]:
        """Other ways to the same goal, as far as the run has measured them."""
        return [
            {
                "name": row["name"],
                "scale": row["scale"],
                **{key: Quantity.of(row.get(key)) for key in ("bias", "fidelity", "frechet")},
            }
            for row in (self.comparison or {}).get("rows") or ()
        ]

    @property
    def notes(self) -> list[str]:
        """What the measuring itself warns of, and what it left out."""
        known = self.metrics or {}
        return [*(known.get("warnings") or ()), *(known.get("not_measured") or ())]

    @property
    def versions(self) -> dict[str, str]:
        """Seed, software and models that the figures depend on."""
        known, seen = self.environment, self.protocol.get("versions") or {}
        facts = {"seed": self.config.seed}
        facts |= {key: known.get(key) for key in ("python", "platform", "processors", "pipeline")}
        facts |= known.get("versions") or {}
        facts |= {f"classifier ({name})": v for name, v in seen.items() if name not in facts}
        facts["feature extractor"] = self.protocol.get("extractor")
        return {key: str(value) for key, value in facts.items() if value is not None}

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took, but for the report itself."""
        return {
            stage: self.stages[stage]["seconds"]
            for stage in STAGES
            if stage != "report" and "seconds" in self.stages.get(stage, {})
        }

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of what a second run has to reproduce, by file."""
        made = {
            name: hashlib.sha256((self.path / name).read_bytes()).hexdigest()
            for name in HASHED
            if (self.path / name).exists()
        }
        extractor = self.protocol.get("extractor_sha256")
        return made | ({"feature extractor": extractor} if extractor else {})

    @property
    def wanted(self) -> tuple[float, ...]:
        """The share wanted of each group, over-represented first; empty for even ones."""
        return tuple(self.config.discover.target)


def group_name(group: int, groups: int, label: str = "") -> str:
    """What group ``group`` of ``groups`` is called."""
    if groups > 2:
        return f"group {group}" + (f" ({label})" if label else "")
    return ("over-represented group", "under-represented group")[group]


def _prompt(entry: Mapping[str, Any]) -> PromptFacts:
    groups = entry.get("groups") or []
    labels = [group.get("label") or "" for group in groups]
    shares = [Quantity.of(group, "share") for group in groups]
    under = Quantity()
    if len(groups) == 2:
        under = shares[1]
    elif groups:
        first = shares[0]
        value, low, high = (
            None if end is None else 1 - end for end in (first.value, first.high, first.low)
        )
        under = Quantity(value, low, high)
    return PromptFacts(
        found=entry["found"],
        left_alone=not entry["found"] and len(groups) > 1 and bool(entry.get("monitored")),
        note=entry.get("note") or "nothing to balance",
        images=entry["images"],
        scored=entry["scored"],
        explained=finite(entry.get("explained")),
        p_value=finite(entry.get("p_value")),
        groups=tuple(
            InferredGroup(group_name(at, len(groups), label), share, label)
            for at, (share, label) in enumerate(zip(shares, labels, strict=True))
        ),
        under=under,
        profile=entry.get("profile"),
    )


def _arm(name: str, entry: Mapping[str, Any]) -> Arm:
    bias = entry.get("bias") or {}
    corrected = {end: bias.get(f"error_corrected_{end}") for end in ("low", "high")}
    return Arm(
        name=name,
        strength=entry.get("strength"),
        images=entry["images"],
        shares={prompt: _shares(one) for prompt, one in (entry.get("shares") or {}).items()},
        bias=Quantity.of({"images": entry["images"], **bias}),
        normalised=Quantity.of(bias.get("normalised")),
        bias_corrected=Quantity.of(bias.get("corrected")),
        classifier_corrected=Quantity.of({"value": bias.get("error_corrected"), **corrected}),
        fidelity=Quantity.of(entry.get("fidelity")),
        explicit=_explicit(entry.get("explicit")),
        frechet=entry.get("frechet") or {},
        manifolds={key: entry.get(key) or {} for key in ("recall", "coverage", "precision")},
    )


def _shares(classes: Mapping[str, Mapping[str, Any]]) -> dict[str, Quantity]:
    images = sum(one.get("count") or 0 for one in classes.values())
    return {name: Quantity.of({**one, "images": images}, "share") for name, one in classes.items()}


def _explicit(entry: Mapping[str, Any] | None) -> ExplicitPrompts | None:
    if not entry:
        return None
    return ExplicitPrompts(
        classes={prompt: one["class"] for prompt, one in entry["prompts"].items()},
        prompts={prompt: Quantity.of(one) for prompt, one in entry["prompts"].items()},
        all=Quantity.of(entry),
    )


def read(run: Any) -> Inputs:
    """Read the folder of ``run`` (``.path``, ``.config``); RunError when a file is damaged."""
    path, results = Path(run.path), Results(Path(run.path))

    def optional(name: str) -> Any:
        return read_json(path / name) if (path / name).exists() else None

    config_file = path / "config.toml"
    return Inputs(
        path=path,
        config=run.config,
        discovery=results.discovery.stored(),
        groups=results.groups.columns() if results.has("groups.parquet") else {},
        training=results.training.stored() if results.has(Training.FILE) else None,
        calibration=results.calibration.stored() if results.has(CalibrationRecord.FILE) else None,
        samples={name: column.tolist() for name, column in results.samples.items()}
        if results.has("samples.parquet")
        else None,
        metrics=results.metrics.stored() if results.has(Metrics.FILE) else None,
        comparison=optional("comparison.json"),
        quarantined=optional("quarantine.json") or (),
        environment=optional("environment.json") or {},
        stages={file.stem: read_json(file) for file in sorted(path.glob("stages/*.json"))},
        config_text=config_file.read_text(encoding="utf-8") if config_file.exists() else "",
    )
