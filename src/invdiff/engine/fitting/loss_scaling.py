"""The factor that keeps gradients in reach of half precision."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

FIRST, MOST, PATIENCE = 2.0**16, 2.0**24, 2000


@dataclass
class Scale:
    """What the loss is multiplied by before the backward pass; 1 where nothing underflows.

    In float16 it is halved when a gradient overflows, and doubled after 2000 steps without that
    (Micikevicius et al. 2018, section 3.2).
    """

    value: float = 1.0
    good: int = 0
    fixed: bool = True

    @classmethod
    def of(cls, dtype: torch.dtype) -> "Scale":
        """The scale to begin with for a network in ``dtype``."""
        return cls(FIRST, 0, fixed=False) if dtype == torch.float16 else cls()

    @torch.no_grad()
    def undo(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Take the factor out of the gradients."""
        for parameter in parameters:
            if not self.fixed and parameter.grad is not None:
                parameter.grad.div_(self.value)

    def update(self, finite: bool) -> None:
        """Learn from one step."""
        if self.fixed:
            return
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.value = max(1.0, self.value / 2)
        elif self.good == PATIENCE:
            self.value, self.good = min(MOST, self.value * 2), 0
