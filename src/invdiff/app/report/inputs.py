"""What the report knows: the files of one run folder, read once, absent ones as None."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from invdiff.engine.storage.files import read_json, read_parquet

HASHED = (
    "adapter/pytorch_lora_weights.safetensors",
    "groups.parquet",
    "scores.parquet",
    "samples.parquet",
    "metrics.json",
)
ARMS = ("base", "guided")


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

    @property
    def prompts(self) -> Mapping[str, Mapping[str, Any]]:
        """What discovery says about each prompt of the training data; no groups if it says none."""
        return {name: {"groups": [], **entry} for name, entry in self.discovery["prompts"].items()}

    @property
    def found(self) -> tuple[str, ...]:
        """The prompts in which there is something to balance."""
        return tuple(prompt for prompt, entry in self.prompts.items() if entry["found"])

    @property
    def trained(self) -> bool:
        """Whether guidance was trained; with nothing to balance it is not."""
        return self.training is not None and not self.training.get("skipped", False)

    @property
    def confidence(self) -> float:
        """The level of every interval of the run."""
        return float(((self.metrics or {}).get("protocol") or {}).get("confidence", 0.95))

    @cached_property
    def scales(self) -> tuple[str, ...]:
        """The guidance scales that were measured, lowest first, as metrics.json names them."""
        arms = (self.metrics or {}).get("arms") or {}
        return tuple(sorted({scale for arm in ARMS for scale in arms.get(arm) or {}}, key=float))

    def arm(self, arm: str, scale: str) -> Mapping[str, Any] | None:
        """What was measured on the images of one model at one guidance scale."""
        entry = (((self.metrics or {}).get("arms") or {}).get(arm) or {}).get(scale)
        return entry or None

    def kept(self, scale: str) -> Mapping[str, Any]:
        """Where the prompt names a class that the base shows: whether the guided picture does."""
        paired = ((self.metrics or {}).get("paired") or {}).get(scale) or {}
        return paired.get("explicit_kept") or {}

    @property
    def has_shares(self) -> bool:
        """Whether an attribute classifier looked at the images."""
        return any(
            (self.arm(arm, scale) or {}).get("shares") for arm in ARMS for scale in self.scales
        )


def read(run: Any) -> Inputs:
    """Read the folder of ``run`` (``.path``, ``.config``); RunError when a file is damaged."""
    path = Path(run.path)

    def optional(name: str) -> Any:
        if not (path / name).exists():
            return None
        return read_parquet(path / name) if name.endswith(".parquet") else read_json(path / name)

    config_file = path / "config.toml"
    return Inputs(
        path=path,
        config=run.config,
        discovery=read_json(path / "discovery.json"),
        groups=optional("groups.parquet") or {},
        training=optional("training.json"),
        calibration=optional("adapter/calibration.json"),
        samples=optional("samples.parquet"),
        metrics=optional("metrics.json"),
        comparison=optional("comparison.json"),
        quarantined=optional("quarantine.json") or (),
        environment=optional("environment.json") or {},
        stages={file.stem: read_json(file) for file in sorted(path.glob("stages/*.json"))},
        config_text=config_file.read_text(encoding="utf-8") if config_file.exists() else "",
    )


def hashes(path: Path) -> dict[str, str]:
    """The SHA-256 of the files that a second run has to reproduce."""
    return {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest()
        for name in HASHED
        if (path / name).exists()
    }
