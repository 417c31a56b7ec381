"""Kernel distance between two sets of features: unbiased, so that it can be compared at small N."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from invdiff.core.measurement.fidelity import ROWS, require_features
from invdiff.core.measurement.influence import InfluenceExpansion, influence


@dataclass(frozen=True)
class Kid:
    """A kernel distance and the images it was taken with; it may be a little below 0."""

    value: float
    images: int
    reference_images: int


def kid(
    images: Float[np.ndarray, "image feature"],
    reference: Float[np.ndarray, "other size"],
    degree: int = 3,
) -> Kid:
    """Squared maximum mean discrepancy under (x.y / dim + 1)^degree (Binkowski et al. 2018).

    arXiv 1801.01401, equation 4: the U-statistic over *all* images, in which no image meets
    itself. Its mean is 0 for equal distributions whatever the number of images.

    Raises:
        InvDiffError: fewer than 2 images in a set, features that are not finite, or of different
            length.
    """
    return Kid(kid_parts(images, reference, degree).value, len(images), len(reference))


def kid_parts(
    images: Float[np.ndarray, "image feature"],
    reference: Float[np.ndarray, "other size"],
    degree: int = 3,
) -> InfluenceExpansion:
    """:func:`kid` with what each image of both sets adds to it, for its interval.

    Beyond first order the noise is that of the doubly centred kernels (Serfling 1980, section
    5.3): 2 / N^2 times their mean square within each set, and 4 / (N M) across.
    """
    require_features(images, reference, least=2)
    one, two = images.astype(np.float64), reference.astype(np.float64)
    own, own_square = _means(one, one, degree)
    other, other_square = _means(two, two, degree)
    across, across_square = _means(one, two, degree)
    back, _ = _means(two, one, degree)
    value = float(own.mean() + other.mean() - 2 * across.mean())
    noise = [
        2 / len(one) ** 2 * _centred_square(own_square, own, own),
        2 / len(two) ** 2 * _centred_square(other_square, other, other),
        4 / (len(one) * len(two)) * _centred_square(across_square, across, back),
    ]
    parts = influence(2 * (own - across)), influence(2 * (other - back))
    return InfluenceExpansion(value, *parts, float(np.sqrt(sum(noise))))


def _means(
    points: Float[np.ndarray, "point feature"],
    others: Float[np.ndarray, "other feature"],
    degree: int,
) -> tuple[Float[np.ndarray, " point"], float]:
    """Mean kernel of each point with the others, and the mean square of all; never with itself."""
    same = points is others
    count = len(others) - same
    sums, square = [], 0.0
    for at in range(0, len(points), ROWS):
        kernel = (points[at : at + ROWS] @ others.T / points.shape[1] + 1) ** degree
        if same:
            rows = np.arange(len(kernel))
            kernel[rows, at + rows] = 0
        sums.append(kernel.sum(1))
        square += float((kernel**2).sum())
    return np.concatenate(sums) / count, square / (len(points) * count)


def _centred_square(
    square: float, rows: Float[np.ndarray, " point"], columns: Float[np.ndarray, " other"]
) -> float:
    """Mean square of a table less the means of its rows and columns; ``square`` is the table's."""
    mean = rows.mean()
    return max(0.0, float(square - (rows**2).mean() - (columns**2).mean() + mean**2))
