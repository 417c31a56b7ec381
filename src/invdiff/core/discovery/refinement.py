"""From values along a direction to two groups that the features can tell apart."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from invdiff.core.discovery.evidence import Carrier
from invdiff.core.discovery.mixture import RAREST, TwoGaussians, fit_two_gaussians

ROUNDS = 4
STILL = 0.9998  # correlation of a direction with the one before
FEWEST = 5
HEAVIEST = 25  # weight of a picture, in medians, however rare its group


@dataclass(frozen=True)
class Partition:
    """Two groups of pictures: the values along a direction of the features, and memberships.

    ``weight`` makes ``values`` of components and prompt columns; of the pictures that it was fitted
    on the values are those of fits that had not seen them. ``negentropy`` says in nats a picture
    how clearly the values are two groups.
    """

    values: Float[np.ndarray, " picture"]
    q: Float[np.ndarray, " picture"]
    groups: TwoGaussians
    weight: Float[np.ndarray, " column"]
    penalty: float
    negentropy: float

    @classmethod
    def of(
        cls,
        carrier: Carrier,
        q: Float[np.ndarray, " picture"],
        groups: TwoGaussians,
        penalty: float,
    ) -> "Partition":
        """What the features tell of the groups, and the groups along that."""
        evidence = carrier.evidence
        values, weight = taught(carrier, q, groups, penalty)
        groups, q = fit_two_gaussians(values, evidence.prompt, len(evidence.names), q)
        clear = groups.negentropy(values, evidence.prompt)
        return cls(values, q, groups, weight, penalty, clear)


def refine(carrier: Carrier, values: Float[np.ndarray, " picture"]) -> list[Partition]:
    """The groups along ``values``, taught to the features again and again until they stand still.

    Both sides of each prompt weigh alike when they are taught, so that a rare one is not given up.
    Returns what each turn gave. Turns drift to whatever the features show most clearly, so it is
    for the costs to say which of them is about a source of theirs.
    """
    prompt, prompts = carrier.evidence.prompt, len(carrier.evidence.names)
    values = (values - values.mean()) / (values.std() + 1e-12)
    groups, q = fit_two_gaussians(values, prompt, prompts)
    turns, penalty = list[Partition](), 0.0
    while len(turns) < ROUNDS and min(q.sum(), (1 - q).sum()) >= FEWEST:
        penalty = penalty or carrier.best_penalty(*_lesson(carrier, q, groups))
        here = Partition.of(carrier, q, groups, penalty)
        turns.append(here)
        if len(turns) > 1 and np.corrcoef(values, here.values)[0, 1] > STILL:
            break
        values, q, groups = here.values, here.q, here.groups
    return turns if min(q.sum(), (1 - q).sum()) >= FEWEST else turns[:-1]


def taught(
    carrier: Carrier,
    q: Float[np.ndarray, " picture"],
    groups: TwoGaussians,
    penalty: float,
) -> tuple[Float[np.ndarray, " picture"], Float[np.ndarray, " column"]]:
    """The discriminant of the groups, cross-fitted, both sides of each prompt weighing alike."""
    target, weight = _lesson(carrier, q, groups)
    values, found = carrier(target, penalty, weight)
    return values[:, 0], found[:, 0]


def _lesson(
    carrier: Carrier, q: Float[np.ndarray, " picture"], groups: TwoGaussians
) -> tuple[Float[np.ndarray, "picture one"], Float[np.ndarray, " picture"]]:
    """What the features are taught: the side of each picture, and how much it weighs."""
    share = groups.share.clip(RAREST, 1 - RAREST)[carrier.evidence.prompt]
    one, other = q * 0.5 / share, (1 - q) * 0.5 / (1 - share)
    weight = one + other
    target = (one - other) / weight
    return target[:, None], np.minimum(weight, HEAVIEST * np.median(weight))
