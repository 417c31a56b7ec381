"""How alike the groups are that discovery infers with one seed and with another."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from invdiff.core.groups.memberships import hard
from invdiff.engine.discovery.groups import membership_of

Groups = Mapping[str, NDArray[np.integer[Any]]]
"""For each prompt which group its images are in, in the order of their ids."""


def groups_of(table: Mapping[str, Sequence[Any]], found: Mapping[str, bool]) -> Groups:
    """The groups of ``groups.parquet``, and one of all images where none were found."""
    ids, prompt = np.array(table["sample_id"]), np.array(table["prompt"])
    group = hard(membership_of(table))
    order = np.argsort(ids)
    return {
        name: group[order][prompt[order] == name] * is_found for name, is_found in found.items()
    }


def pairs(by_seed: Mapping[int, Groups]) -> Iterator[tuple[int, int, str, float]]:
    """Two seeds, a prompt, and the adjusted Rand index of its groups with each.

    1 for the same groups, 0 for no more in common than by chance. Where nothing was found there is
    one group of all: 1 if that is so with both seeds, 0 if with one of them.
    """
    for one, other in combinations(sorted(by_seed), 2):
        for prompt, groups in by_seed[one].items():
            alike = adjusted_rand_score(groups, by_seed[other][prompt])
            yield one, other, prompt, float(alike)
