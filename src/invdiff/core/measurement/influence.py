"""Bootstrap intervals for figures that are not means: each to first order in its images.

A distance or a mean over pairs is replaced by its value plus one part for each image (its
influence function over N; Efron and Tibshirani 1993, chapter 22), which is then resampled. That
needs no new fit for each resample, and no image ever meets its own copy, which would bias a
distance between neighbours. What is lost: the upward bias of a figure of few images is in its
value, and the interval does not take it away.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

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


def difference(before: InfluenceExpansion, after: InfluenceExpansion) -> InfluenceExpansion:
    """``before`` less ``after``, image by image: row k of both has the same prompt and seed."""
    if len(before.parts) != len(after.parts):
        raise InvDiffError(
            f"{len(before.parts)} and {len(after.parts)} images make no pairs: give as many"
        )
    return InfluenceExpansion(
        before.value - after.value,
        before.parts - after.parts,
        before.reference - after.reference,
        float(np.hypot(before.rest, after.rest)),
    )
