"""What a training must remember to go on to the same weights, bit for bit."""

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.amp import GradScaler

from invdiff.engine.distributed.team import Team
from invdiff.engine.fitting.optimisers import Average
from invdiff.engine.storage import checkpoint
from invdiff.engine.training.min_step import MinStep
from invdiff.errors import RunError
from invdiff.model.lora import adapter

ADAPTER, AVERAGE = "adapter/", "average/"


@dataclass
class Memory:
    """The numbers of a training: its loss curve, and the steps that were left out.

    ``bad`` has those without a finite gradient and the samples in them; the last ``in_a_row`` of
    them came one after the other.
    """

    curve: dict[str, list[float]] = field(default_factory=lambda: {"step": [], "loss": []})
    validation: dict[str, list[float]] = field(default_factory=lambda: {"step": [], "loss": []})
    bad: list[dict[str, Any]] = field(default_factory=list)
    in_a_row: int = 0


@dataclass
class TrainingState:
    """Everything that changes from step to step."""

    objective: MinStep
    optimiser: torch.optim.Optimizer
    average: Average
    scaler: GradScaler
    memory: Memory

    def save(self, folder: Path, step: int, keep: int) -> None:
        """Write the checkpoint of ``step`` finished steps."""
        held = {ADAPTER: adapter.state(self.objective.denoiser.module)}
        held[AVERAGE] = self.average.state()
        tensors = {prefix + k: v for prefix, part in held.items() for k, v in part.items()}
        tensors |= checkpoint.pack(optimiser=self.optimiser)
        checkpoint.save_checkpoint(folder, step, tensors, self._facts(), keep)

    def resume(self, folder: Path | None, team: Team) -> int:
        """Take up the newest valid checkpoint below the leader's ``folder``; its step, or 0."""
        found = team.share(checkpoint.newest(folder) if folder else None)
        if found is None:
            return 0
        tensors, facts = found
        adapter.load_state(self.objective.denoiser.module, _part(tensors, ADAPTER))
        self.average.load_state(_part(tensors, AVERAGE))
        checkpoint.unpack(tensors, optimiser=self.optimiser)
        self.objective.aims = facts["aims"]
        checks = facts.get("mid_training_checks", [])  # older checkpoints have none
        self.objective.mid_training_checks = checks
        regrets = self.objective.regrets
        regrets.value = np.array(facts["regrets"], dtype=float).reshape(regrets.value.shape)
        regrets.total = np.array(facts["totals"], dtype=float).reshape(regrets.total.shape)
        scale = {"scale": facts["scale"], "_growth_tracker": facts["good"]}
        self.scaler.load_state_dict(self.scaler.state_dict() | scale)
        for name in vars(self.memory):
            setattr(self.memory, name, facts[name])
        return int(facts["step"])

    def require_room(self, folder: Path, keep: int) -> None:
        """RunError if there is no room for the checkpoints, one more than are kept, and the result.

        Assumes two moments for each weight: no optimiser here has more.
        """
        groups = self.optimiser.param_groups
        weights = sum(p.numel() * p.element_size() for group in groups for p in group["params"])
        needed = weights * ((3 + bool(self.average.values)) * (keep + 1) + 1)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise RunError(
                f"training needs about {_size(needed)} in {folder} for {keep} checkpoints and the "
                f"adapter, and {_size(free)} are free: make room, or take another --out"
            )

    def _facts(self) -> dict[str, Any]:
        objective, scale = self.objective, self.scaler.state_dict()
        return {
            "regrets": objective.regrets.value.tolist(),
            "totals": objective.regrets.total.tolist(),
            "aims": objective.aims,
            "mid_training_checks": objective.mid_training_checks,
            "scale": scale.get("scale", 1.0),
            "good": scale.get("_growth_tracker", 0),
            **vars(self.memory),
        }


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _size(count: int) -> str:
    return f"{math.ceil(count / 2**20):,} MB"
