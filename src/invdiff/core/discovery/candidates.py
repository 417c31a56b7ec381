"""Directions in which sources may lie: where the search begins."""

import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from invdiff.core.discovery.evidence import CostEvidence
from invdiff.core.discovery.objective import ascend

UPHILL = 3  # leading components that the max step starts from
LEADING = 4  # leading components that are candidates themselves


def candidates(
    evidence: CostEvidence, carried: Float[np.ndarray, "picture cost"]
) -> Iterator[tuple[str, Float[np.ndarray, " picture"], bool]]:
    """Directions to begin with, as values of all pictures, and whether the max step found them.

    From the costs, carried to all pictures: where the max step's objective is largest, uphill from
    principal components; these components; independent components.
    """
    count = max(1, evidence.costs.shape[2] * max(1, len(evidence.compared) - 1))
    count = min(count, *carried.shape, evidence.components.shape[1])
    axes = np.linalg.svd(carried, full_matrices=False)[2][:count]
    scores = carried @ axes.T
    if evidence.several:
        for k in range(min(UPHILL, count)):
            reached, values = ascend(evidence, carried, scores[:, k])
            if reached > 1e-6:
                yield f"max step from component {k + 1} of the costs", values, True
    for k in range(min(LEADING, count)):
        yield f"component {k + 1} of the costs", scores[:, k], False
    if count > 1:
        for k, values in enumerate(independent(scores[:, :LEADING])):
            yield f"independent component {k + 1} of the costs", values, False


def independent(values: Float[np.ndarray, "picture component"]) -> np.ndarray:
    """Independent components, a row for each; none if they do not converge to any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = FastICA(values.shape[1], random_state=0, max_iter=500, whiten="unit-variance")
        return model.fit_transform(values).T
