"""The max step: from scores and features to inferred groups, and whether there is anything at all.

Group 0 goes *with* what the model has learnt for the prompt, group 1 *against* it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from invdiff.core.discovery.objective import RANKED_BY
from invdiff.core.discovery.verdict import Verdict
from invdiff.core.groups.memberships import Membership
from invdiff.core.groups.several_groups import MultiGroupModel
from invdiff.core.groups.two_groups import GroupModel


@dataclass(frozen=True)
class Grouping:
    """Inferred groups: ``against[i]`` is q_i(1), the probability that image i is in group 1.

    Of more than two groups it has a row of q_i(0) to q_i(K-1) for each image; ``names`` says what
    each group of a prompt is where they are labels that were given. ``models`` gives the same for
    new images of a prompt, from their raw features. ``score`` names what the groups were read off,
    "excess", "contrast" or "loss"; empty for groups that were given. ``ranked_by`` says what the
    numbers of the ``ranking`` are.
    """

    against: Membership
    verdicts: dict[str, Verdict]
    models: Mapping[str, GroupModel | MultiGroupModel]
    chosen: str
    ranking: tuple[tuple[str, float], ...]
    score: str = ""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranked_by: str = RANKED_BY


GroupModels = dict[str, GroupModel]


def apply(
    models: GroupModels, features: Float[np.ndarray, "sample feature"], prompt: np.ndarray
) -> Float[np.ndarray, " sample"]:
    """q_i(1) of all images, each by the model of its prompt."""
    against = np.empty(len(features))
    for name, model in models.items():
        against[prompt == name] = model(features[prompt == name])
    return against


def orient(
    models: GroupModels,
    features: Float[np.ndarray, "scored feature"],
    score: Float[np.ndarray, " scored"],
    prompt: np.ndarray,
) -> GroupModels:
    """Turn each prompt's groups so that group 1 is the one that costs the model more."""
    turned = {}
    for name, model in models.items():
        rows = prompt == name
        q = model(features[rows])
        against = rows.sum() < 3 or np.cov(q, score[rows])[0, 1] >= 0
        turned[name] = model if against else model.flipped()
    return turned
