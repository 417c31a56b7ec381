"""Running means of what each group costs more than under the frozen base."""

from dataclasses import dataclass, field

import numpy as np

from invdiff.core.groups.memberships import Membership, memberships


@dataclass
class Regrets:
    """Running group risks of each balanced prompt; NaN until a group has been seen.

    ``total`` sums the risks up instead, for GroupDRO.
    """

    prompts: tuple[str, ...]
    memory: float = 0.9
    groups: int = 2
    value: np.ndarray = field(init=False)
    total: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros((len(self.prompts), self.groups))
        self.value = np.full((len(self.prompts), self.groups), np.nan)

    def update(self, losses: np.ndarray, prompt: np.ndarray, member: Membership) -> None:
        """Take in losses (n,) of images with the given prompts and memberships."""
        columns = memberships(member).T
        for row, name in enumerate(self.prompts):
            inside = prompt == name
            for group, q in enumerate(columns):
                mass = q[inside].sum()
                if mass > 0.5:
                    seen = float(q[inside] @ losses[inside] / mass)
                    old = self.value[row, group]
                    mixed = self.memory * old + (1 - self.memory) * seen
                    self.value[row, group] = seen if np.isnan(old) else mixed
                    self.total[row, group] += seen
