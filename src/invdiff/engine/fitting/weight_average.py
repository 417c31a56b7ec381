"""An exponential average of the adapter's weights over the steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


class Average:
    """The running average of ``parameters``; with decay 0 it is they themselves.

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
