"""How close generated pictures are to a reference set, in the features of some extractor.

Every figure needs its reference named: a balanced sampler is far from a biased training set. Both
figures move with the number of images, so compare only figures that were taken with the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from invdiff.errors import InvDiffError

ROWS = 1024


@dataclass(frozen=True)
class Frechet:
    """A Fréchet distance, the images it was taken with and a remark (empty: none)."""

    value: float
    images: int
    reference_images: int
    note: str


@dataclass(frozen=True)
class Manifolds:
    """What each image or reference image adds to four figures, which are the means.

    ``precision`` is the share of images in the reference's manifold, ``recall`` the reverse, 0..1.
    ``coverage`` is the share of the reference near which there is an image. ``density`` is in how
    many balls of the reference an image lies, over the number of neighbours: 1 on average for equal
    sets, and more where images crowd in its dense places.
    """

    precision: Float[np.ndarray, " image"]
    density: Float[np.ndarray, " image"]
    recall: Float[np.ndarray, " other"]
    coverage: Float[np.ndarray, " other"]


def frechet(
    images: Float[np.ndarray, "image feature"], reference: Float[np.ndarray, "other size"]
) -> Frechet:
    """Squared 2-Wasserstein distance between Gaussians fitted to both sets (Heusel et al. 2017).

    |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)), with unbiased covariances; 0 for equal
    moments. Grows as images get fewer. The trace of the root is the sum of the roots of the
    eigenvalues of C_1^(1/2) C_2 C_1^(1/2), which is symmetric, so that no complex root arises.

    Raises:
        InvDiffError: fewer than 2 images in a set, features that are not finite, or of
            different length.
    """
    require_features(images, reference, least=2)
    values, vectors = np.linalg.eigh(np.cov(images, rowvar=False, dtype=np.float64))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    other = np.cov(reference, rowvar=False, dtype=np.float64)
    shared = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum()
    shift = images.mean(0, dtype=np.float64) - reference.mean(0, dtype=np.float64)
    value = shift @ shift + values.sum() + other.trace() - 2 * shared
    fewest, dims = min(len(images), len(reference)), images.shape[1]
    note = (
        f"{fewest} images are no more than the {dims} features: the covariance is singular and "
        "the distance too large"
        if fewest <= dims
        else ""
    )
    return Frechet(max(0.0, float(value)), len(images), len(reference), note)


def manifolds(
    images: Float[np.ndarray, "image feature"],
    reference: Float[np.ndarray, "other size"],
    neighbours: int = 3,
) -> Manifolds:
    """Precision, recall, coverage and density, image by image.

    Precision and recall are those of Kynkäänniemi et al. 2019 (arXiv 1904.06991, equations 1 and
    2), coverage and density those of Naeem et al. 2020 (arXiv 2002.09797, equations 4 and 3). A
    set's manifold is the
    union of balls around its members, each as wide as the distance to the member's
    ``neighbours``-th nearest other member. Lost modes lower the recall, odd pictures the
    precision. The balls of a mode with few images are wide, so a rare mode can have more recall
    than a frequent one; coverage asks for an image in the balls of the reference and can't be
    widened that way. Distances are computed ``ROWS`` rows at a time.

    Raises:
        InvDiffError: no more than ``neighbours`` images in a set, features that are not finite,
            or of different length.
    """
    require_features(images, reference, least=neighbours + 1)
    first, second = torch.from_numpy(images).double(), torch.from_numpy(reference).double()
    # a point is its own nearest, hence + 1
    radii, own = (
        of_distances(one, one, lambda far: far.kthvalue(neighbours + 1, dim=1).values)
        for one in (second, first)
    )
    balls = of_distances(first, second, lambda far: (far <= radii).sum(1))
    recalled = of_distances(second, first, lambda far: (far <= own).any(1))
    covered = of_distances(second, first, lambda far: far.amin(1)) <= radii
    return Manifolds(
        (balls > 0).double().numpy(),
        (balls.double() / neighbours).numpy(),
        recalled.double().numpy(),
        covered.double().numpy(),
    )


def require_features(
    images: Float[np.ndarray, "image feature"],
    reference: Float[np.ndarray, "other size"],
    least: int,
) -> None:
    """InvDiffError unless both sets are finite, equally wide and have ``least`` members."""
    if images.shape[1] != reference.shape[1]:
        raise InvDiffError(
            f"the images have {images.shape[1]} features and the reference {reference.shape[1]}: "
            "take both from one extractor"
        )
    for name, features in (("images", images), ("reference", reference)):
        if len(features) < least:
            raise InvDiffError(
                f"the number of {name} is {len(features)}, and {least} are needed: give more"
            )
        broken = int((~np.isfinite(features)).any(1).sum())
        if broken:
            raise InvDiffError(
                f"{broken} of {len(features)} {name} have features that are not finite: look for "
                "broken pictures or a half-precision extractor"
            )


def of_distances(
    points: Float[Tensor, "point feature"],
    others: Float[Tensor, "other feature"],
    figure: Callable[[Tensor], Tensor],
) -> Shaped[Tensor, " point"]:
    """``figure`` of the distances (point, other) for each point, ``ROWS`` points at a time."""
    # The matrix product that cdist takes by default loses digits where points are close.
    exact = partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.cat([figure(exact(part, others)) for part in points.split(ROWS)])
