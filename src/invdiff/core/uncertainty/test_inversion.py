"""The values of a quantity that a test does not reject: an interval by test inversion.

At each value tried, samplers that have it are simulated and it is asked how often they look as
extreme as what was observed (parametric bootstrap with the nuisance shares fitted, as in Chuang
and Lai 2000, Statistica Sinica 10). Which outcomes are extreme near the smallest value is ordered
as by Feldman and Cousins (1998, Physical Review D 57, 3873), so that no interval is empty. Counts
are whole numbers; an outcome exactly as extreme as the observed one counts half (the mid-p value),
without which the intervals would be too wide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

# A simulated tail is known no better than this makes sense: halvings of the searched range.
HALVINGS = 14
TIE = 1e-9

Draws = Float[np.ndarray, " draw"]


@dataclass(frozen=True)
class Inversion:
    """A test of each value in ``least``..``most``.

    ``simulate`` gives what samplers of a value show; ``observed`` is what was shown. With
    ``bounded`` nothing is below ``least``: an outcome that is smaller than ``least`` itself
    explains is then no evidence against small values.
    """

    observed: float
    simulate: Callable[[float], Draws]
    least: float
    most: float
    bounded: bool

    def accepts(self, value: float, confidence: float = 0.95) -> bool:
        """Whether a test at level 1 - ``confidence`` does not reject ``value``."""
        drawn = self.simulate(value)
        if self.bounded:
            return _worse(drawn, self.observed, self._floor) > 1 - confidence
        return _smaller(drawn, self.observed) > 1 - confidence

    def ends(self, confidence: float = 0.95) -> tuple[float, float]:
        """Ends of the values that are accepted; ``observed`` is between them."""
        return self._end(self.least, confidence), self._end(self.most, confidence)

    @cached_property
    def _floor(self) -> Draws:
        return self.simulate(self.least)

    def _end(self, outside: float, confidence: float) -> float:
        if self.accepts(outside, confidence):
            return outside
        inside = min(max(self.observed, self.least), self.most)
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            if self.accepts(middle, confidence):
                inside = middle
            else:
                outside = middle
        return (inside + outside) / 2


def redraw(
    chances: Float[np.ndarray, "prompt cell"],
    totals: Int[np.ndarray, " prompt"],
    resamples: int,
    seed: int,
) -> Int[np.ndarray, "draw prompt cell"]:
    """Tables of counts in which ``totals`` images of each prompt follow ``chances``."""
    # Rounding may leave a sum of 1 + 1e-16, which the generator refuses.
    chances = chances.clip(0) / chances.clip(0).sum(-1, keepdims=True)
    return np.random.default_rng(seed).multinomial(totals, chances, (resamples, len(totals)))


def _smaller(drawn: Draws, observed: float) -> float:
    """The smaller tail, doubled."""
    below = float((drawn < observed - TIE).mean())
    tie = float((np.abs(drawn - observed) <= TIE).mean())
    return 2 * min(below + tie / 2, 1 - below - tie / 2)


def _worse(drawn: Draws, observed: float, floor: Draws) -> float:
    """Chance of an outcome that fits the value worse, compared with how it fits the floor.

    Fit is the normal log likelihood; for outcomes that the floor explains it is counted from
    there.
    """
    spread = max(drawn.std(), TIE)
    place, here = (drawn - drawn.mean()) / spread, (observed - drawn.mean()) / spread
    order = _below(drawn, floor) - place**2
    own = float(_below(observed, floor)) - here**2
    tied = np.abs(order - own) <= TIE
    return float(((order < own) & ~tied).mean() + tied.mean() / 2)


def _below(
    values: Float[np.ndarray, " draw"] | float, floor: Float[np.ndarray, " other"]
) -> Float[np.ndarray, "..."] | np.floating[Any]:
    return np.minimum((values - floor.mean()) / max(floor.std(), TIE), 0) ** 2
