"""Which picture of the first set belongs to which of the second: those of one name.

Pictures of one seed have one name in most folders of samples. Where names are equal and seeds are
not, taking them as pairs does no harm: nothing cancels then, and the interval is the unpaired one.
"""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from invdiff.core.measurement.influence import InfluenceExpansion, difference
from invdiff.data.gallery import Gallery

PAIRED = "paired by name"


@dataclass(frozen=True)
class Sides:
    """Prompts of both sets and, where pictures pair by name, the rows of the second in order."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    order: NDArray[np.int64] | None

    @property
    def paired(self) -> bool:
        """Whether every picture has its partner."""
        return self.order is not None

    def less(
        self, before: InfluenceExpansion, after: InfluenceExpansion
    ) -> tuple[InfluenceExpansion, list[str], list[str]]:
        """``before`` less ``after`` with its strata and prompts.

        What both share (the seed of a pair, the reference) cancels.
        """
        if self.order is not None:
            moved = replace(after, parts=after.parts[self.order])
            return difference(before, moved), list(self.first), list(self.first)
        reference = before.reference - after.reference
        parts = np.concatenate([before.parts, -after.parts])
        strata = [f"a {prompt}" for prompt in self.first]
        strata += [f"b {prompt}" for prompt in self.second]
        rest = float(np.hypot(before.rest, after.rest))
        joined = InfluenceExpansion(before.value - after.value, parts, reference, rest)
        return joined, strata, [*self.first, *self.second]


def sides(first: Gallery, second: Gallery) -> Sides:
    """Pairs are pictures of one name (its suffix aside) and prompt, if that covers both sets."""
    keys = [
        [
            (str(PurePosixPath(name).with_suffix("")), prompt)
            for name, prompt in zip(*one, strict=True)
        ]
        for one in ((first.names, first.prompt), (second.names, second.prompt))
    ]
    order = None
    if len(set(keys[0])) == len(keys[0]) and sorted(keys[0]) == sorted(keys[1]):
        place = {key: row for row, key in enumerate(keys[1])}
        order = np.array([place[key] for key in keys[0]], dtype=np.int64)
    return Sides(first.prompt, second.prompt, order)
