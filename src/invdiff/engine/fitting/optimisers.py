"""Optimisers by name, and the average of the weights over their steps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any

import torch

from invdiff.errors import MissingExtra

WEIGHT_DECAY = 1e-2

# Library, its class, and what it is given beside parameters, learning rate and weight decay.
# Adafactor would otherwise set a learning rate of its own, and Prodigy starts slowly without the
# correction of Adam's first steps.
_TABLE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "adamw": ("torch.optim", "AdamW", {"fused": True}),
    "adamw8bit": ("bitsandbytes.optim", "AdamW8bit", {}),
    "prodigy": ("prodigyopt", "Prodigy", {"use_bias_correction": True, "safeguard_warmup": True}),
    "adafactor": (
        "transformers",
        "Adafactor",
        {"scale_parameter": False, "relative_step": False, "warmup_init": False},
    ),
}


def make(
    name: str, parameters: Sequence[torch.nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """The optimiser ``name`` of these parameters.

    Raises:
        MissingExtra: its library is not installed.
    """
    library, kind, options = _TABLE[name]
    try:
        found: Callable[..., torch.optim.Optimizer] = getattr(import_module(library), kind)
    except ImportError:
        raise MissingExtra(library.partition(".")[0], "optimisers") from None
    with redirect_stdout(StringIO()):  # Prodigy prints a remark
        return found(parameters, lr=learning_rate, weight_decay=WEIGHT_DECAY, **options)


class Average:
    """An exponential average of ``parameters`` over the steps; with decay 0 it is they themselves.

    The first steps count less: their decay is (1 + step) / (10 + step), where that is smaller.
    """

    def __init__(self, decay: float, parameters: Sequence[torch.nn.Parameter]) -> None:
        self.decay = decay
        self.parameters = list(parameters) if decay else []
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The average in the place of the weights, which come back afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def keep(self) -> None:
        """The average in the place of the weights, for good."""
        self._swap()
        self.parameters, self.values = [], []

    @torch.no_grad()
    def _swap(self) -> None:
        for value, parameter in zip(self.values, self.parameters, strict=True):
            held = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(held)

    def state(self) -> dict[str, torch.Tensor]:
        """The average, by the position of each parameter."""
        return {str(index): value.clone() for index, value in enumerate(self.values)}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Put back what :meth:`state` gave."""
        for index, value in enumerate(self.values):
            value.copy_(state[str(index)])
