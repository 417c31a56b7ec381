"""Figures of images that are not means, each to first order in its images, for the bootstrap.

The Fréchet distance, the kernel distance (KID) and the diversity of the images of one prompt, in
the features of some extractor.

A distance or a mean over pairs is replaced by its value plus one part for each image (its
influence function over N; Efron and Tibshirani 1993, chapter 22), which is then resampled. That
needs no new fit for each resample, and no image ever meets its own copy, which would bias a
distance between neighbours. What is lost: the upward bias of a figure of few images is in its
value, and the interval does not take it away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from invdiff.core.measurement.fidelity import ROWS, of_distances, require_features
from invdiff.errors import InvDiffError

Parts = Float[np.ndarray, " image"]


@dataclass(frozen=True)
class InfluenceExpansion:
    """A figure and what each image (and each reference image) moves it by; parts sum to 0.

    ``rest`` is the standard deviation of what is beyond first order. A distance between sets that
    are alike has no first order, and this is all of its noise.
    """

    value: float
    parts: Parts
    reference: Float[np.ndarray, " other"]
    rest: float = 0.0


def influence(values: Parts) -> Parts:
    """The parts of the mean of ``values``."""
    return (values - values.mean()) / len(values)


def mean_of(values: Parts) -> InfluenceExpansion:
    """A mean over images; no reference takes part."""
    return InfluenceExpansion(float(values.mean()), influence(values), np.zeros(0))


def frechet_parts(
    value: float,
    images: Float[np.ndarray, "image feature"],
    reference: Float[np.ndarray, "other feature"],
) -> InfluenceExpansion:
    """The Fréchet distance ``value`` between both sets, to first order in their images.

    With means m, covariances C and the optimal transport map T = C_1^(-1/2) (C_1^(1/2) C_2
    C_1^(1/2))^(1/2) C_1^(-1/2), an image x moves it by 2 (m_1 - m_2).(x - m_1) + (x - m_1).(I -
    T)(x - m_1), less the mean of that over its set. With x - m_1 the rows of A sqrt(N - 1) and B
    the other set's, A T A' is the root of (A B')(A B')', so that one decomposition of A B' serves
    both sets, and singular covariances do no harm.
    """
    shift = images.mean(0, dtype=np.float64) - reference.mean(0, dtype=np.float64)
    one, two = _centred(images), _centred(reference)
    (basis, first), (other, second) = np.linalg.qr(one), np.linalg.qr(two)
    left, root, right = np.linalg.svd(first @ second.T)
    width = len(root)
    left, right = basis @ left[:, :width], other @ right[:width].T

    def moved(
        rows: Float[np.ndarray, "row feature"],
        turned: Float[np.ndarray, "row rank"],
        away: Float[np.ndarray, " feature"],
    ) -> Float[np.ndarray, " row"]:
        size = len(rows) - 1
        square = size * ((rows**2).sum(1) - (turned**2) @ root)
        return influence(2 * np.sqrt(size) * rows @ away + square)

    return InfluenceExpansion(value, moved(one, left, shift), moved(two, right, -shift))


def _centred(features: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row feature"]:
    exact = features.astype(np.float64)
    return (exact - exact.mean(0)) / np.sqrt(len(exact) - 1)


def kid_parts(
    images: Float[np.ndarray, "image feature"], reference: Float[np.ndarray, "other size"]
) -> InfluenceExpansion:
    """Squared maximum mean discrepancy under (x.y / dim + 1)^3 (Bińkowski et al. 2018).

    arXiv 1801.01401, equation 4: the U-statistic over *all* images, in which no image meets
    itself. Its mean is 0 for equal distributions whatever the number of images, so that it can be
    compared at few, and it may be a little below 0.

    Beyond first order the noise is that of the doubly centred kernels (Serfling 1980, section
    5.3): 2 / N^2 times their mean square within each set, and 4 / (N M) across.

    Raises:
        InvDiffError: fewer than 2 images in a set, features that are not finite, or of different
            length.
    """
    require_features(images, reference, least=2)
    one, two = images.astype(np.float64), reference.astype(np.float64)
    own, own_square = _means(one, one)
    other, other_square = _means(two, two)
    across, across_square = _means(one, two)
    back, _ = _means(two, one)
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
) -> tuple[Float[np.ndarray, " point"], float]:
    """Mean kernel of each point with the others, and the mean square of all; never with itself."""
    same = points is others
    count = len(others) - same
    sums, square = [], 0.0
    for at in range(0, len(points), ROWS):
        kernel = (points[at : at + ROWS] @ others.T / points.shape[1] + 1) ** 3
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


def diversity(
    features: Float[np.ndarray, "image feature"],
    prompt_of: Sequence[str],
    *,
    with_itself: bool = False,
) -> InfluenceExpansion:
    """Mean distance of two images of one prompt, mean over prompts, with what each image adds.

    Euclidean distance between feature vectors of length 1, in 0..2. No image is compared with
    itself, unless ``with_itself`` (the authors' code does it: N zeros among N^2 pairs). Prompts of
    fewer than two images take no part.

    Raises:
        InvDiffError: no prompt has two images, or features that are not finite.
    """
    require_features(features, features, least=1)
    names = np.asarray(prompt_of, dtype=str)
    rows_of = [np.flatnonzero(names == name) for name in np.unique(names)]
    rows_of = [rows for rows in rows_of if len(rows) > 1]
    if not rows_of:
        raise InvDiffError("no prompt has two images to compare: give more images of each prompt")
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    distances = []
    for rows in rows_of:
        points = torch.from_numpy(unit[rows]).double()
        sums = of_distances(points, points, lambda far: far.sum(1))
        distances.append(sums.numpy() / (len(rows) - (not with_itself)))
    value = float(np.mean([of_prompt.mean() for of_prompt in distances]))
    parts = np.zeros(len(features))
    for rows, of_prompt in zip(rows_of, distances, strict=True):
        moved = 2 * (of_prompt - of_prompt.mean()) + (of_prompt.mean() - value)
        parts[rows] = moved / len(rows) / len(rows_of)
    return InfluenceExpansion(value, parts, np.zeros(0))
