"""Candidate partitions: the simple ways to split images in two that the max step chooses from.

Left free, the max step (InvDiff, arXiv 2412.08480) splits the sorted scores and calls noise a
group. A bias that people see is simple in the denoiser's own features, so candidates are of two
kinds: clusters of those features, and splits of the score carried to the features by a
cross-fitted linear model. Faces need the first kind, cut-outs on photographs the second.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import gaussian_kde
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from invdiff.core.groups.features import (
    CLUSTERED,
    FOLDS,
    LogisticDiscriminant,
    centre_within_prompts,
    cross_fit,
)

CLUSTER_COUNTS = range(2, 7)


@dataclass(frozen=True)
class Candidate:
    """A partition of the scored images in two: ``member`` says who is in the second group."""

    name: str
    member: Bool[np.ndarray, " sample"]


def cluster_candidates(
    components: Float[np.ndarray, "sample component"], prompt: np.ndarray, seed: int
) -> Iterator[Candidate]:
    """One cluster against the rest: k-means and Gaussian mixtures, pooled and prompt-centred."""
    leading = components[:, :CLUSTERED]
    for view, values in (
        ("pooled", leading),
        ("prompt-centred", centre_within_prompts(leading, prompt)),
    ):
        for count in CLUSTER_COUNTS:
            for method, fit in (("k-means", k_means), ("mixture", gaussians)):
                labels = fit(values[:, :10] if method == "mixture" else values, count, seed)
                for cluster in range(1 if count == 2 else 0, count):
                    name = f"{method}, {count} clusters, {view}, cluster {cluster + 1}"
                    yield Candidate(name, labels == cluster)


def k_means(
    values: Float[np.ndarray, "sample component"], count: int, seed: int
) -> Int[np.ndarray, " sample"]:
    """The cluster of each image, the best of four starts."""
    return KMeans(count, n_init=4, random_state=seed % 2**32).fit_predict(values)


def gaussians(
    values: Float[np.ndarray, "sample component"], count: int, seed: int
) -> Int[np.ndarray, " sample"]:
    """The component of a Gaussian mixture that each image is in."""
    model = GaussianMixture(count, reg_covar=1e-3, random_state=seed % 2**32)
    return model.fit_predict(values / values.std())


def split_candidates(
    score: Float[np.ndarray, " sample"],
    components: Float[np.ndarray, "sample component"],
    prompt: np.ndarray,
    min_share: float,
    seed: int,
) -> Iterator[Candidate]:
    """Splits of one prompt's score by several rules, each carried to all images.

    A linear model of the split carries it: cross-fitted within the prompt, where what it cannot
    see in the features is noise, and on to the other prompts. An attribute that could be a bias
    is there as well; what only this prompt has is its content.
    """
    for name, rule in SPLITS.items():
        for text in np.unique(prompt):
            rows = prompt == text
            high = rule(score[rows], min_share)
            if min(high.sum(), (~high).sum()) < FOLDS:
                continue
            member = LogisticDiscriminant.fit(components[rows], high)(components) > 0.5
            member[rows] = cross_fit(components[rows], high, seed) > 0.5
            yield Candidate(f"{name} of the score of {str(text)!r}, carried over", member)


def valley(score: Float[np.ndarray, " sample"], min_share: float) -> Bool[np.ndarray, " sample"]:
    """Above the deepest valley of the score's density; nobody where there is only one hill."""
    grid = np.quantile(score, np.linspace(min_share, 1 - min_share, 200))
    density = gaussian_kde(score, bw_method=0.2)(grid)
    left = np.maximum.accumulate(density)
    right = np.maximum.accumulate(density[::-1])[::-1]
    depth = 1 - density / np.minimum(left, right)
    if depth.max() <= 0:
        return np.zeros(len(score), bool)
    return score > grid[int(depth.argmax())]


def mixture_split(
    score: Float[np.ndarray, " sample"], min_share: float
) -> Bool[np.ndarray, " sample"]:
    """Members of the higher component of a two-component Gaussian mixture."""
    column = ((score - score.mean()) / (score.std() + 1e-12))[:, None]
    model = GaussianMixture(2, n_init=3, random_state=0).fit(column)
    high = model.predict(column) == int(model.means_.ravel().argmax())
    return high if min_share <= high.mean() <= 1 - min_share else np.zeros(len(score), bool)


def exact_split(
    score: Float[np.ndarray, " sample"], min_share: float
) -> Bool[np.ndarray, " sample"]:
    """The split of the sorted scores with the largest variance between its sides.

    This is the exact optimum of the max step with free groups (two of them), which the authors'
    code approaches with 500 steps of Adam.
    """
    ordered = np.sort(score)
    count = len(ordered)
    sizes = np.arange(1, count)
    below = np.cumsum(ordered)[:-1] / sizes
    above = (ordered.sum() - np.cumsum(ordered)[:-1]) / (count - sizes)
    between = sizes * (count - sizes) * (above - below) ** 2
    allowed = (sizes >= min_share * count) & (sizes <= (1 - min_share) * count)
    cut = int(np.where(allowed, between, -1.0).argmax())
    return score > ordered[cut]


SPLITS = {"valley": valley, "mixture": mixture_split, "exact split": exact_split}
