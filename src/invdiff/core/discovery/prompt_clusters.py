"""Prompt groups: which captions mean enough alike to be searched for a skew together.

Groups are inferred among pictures of one prompt. Where every picture has a caption of its own, the
captions are clustered by what the model's own text encoder makes of them, and a cluster stands in
for the prompt.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

COMPONENTS = 32
COUNTS = (*range(2, 17), 20, 24, 32, 40, 48, 64)
LEAST_SILHOUETTE = 0.1
COMPARED = 2000
STARTS = 3


@dataclass(frozen=True)
class PromptGroups:
    """Which group each text is in, numbered from 0, and why so many.

    ``silhouettes`` has the mean silhouette of each number of clusters that was tried; ``label`` is
    that of the best one, or 0 throughout where none reached ``LEAST_SILHOUETTE``.
    """

    label: Int[np.ndarray, " text"]
    silhouettes: dict[int, float]


def prompt_groups(
    vectors: Float[np.ndarray, "text width"], images: Int[np.ndarray, " text"], least: int
) -> PromptGroups:
    """Cluster texts by their vectors, each cluster with at least ``least`` images.

    Args:
        vectors: what each text means; their directions count, not their lengths.
        images: how many images each text has.
        least: smallest number of images of a group.

    k-means for each number of clusters in ``COUNTS`` that the images allow; clusters with too few
    images are joined to the nearest one; kept is the number with the highest mean silhouette
    (Rousseeuw 1987). Below ``LEAST_SILHOUETTE`` there is no structure to speak of and all texts are
    one group. Deterministic, whatever else has drawn random numbers.
    """
    points = directions(vectors)
    most = min(int(images.sum()) // least, len(np.unique(points.round(9), axis=0)))
    best = np.zeros(len(points), np.int64)
    silhouettes: dict[int, float] = {}
    for count in (count for count in COUNTS if count <= most):
        means = KMeans(count, n_init=STARTS, random_state=0)
        label = joined(points, means.fit_predict(points, sample_weight=images), images, least)
        if label.max() == 0:
            continue
        value = silhouette(points, label)
        if value > max([LEAST_SILHOUETTE, *silhouettes.values()]):
            best = label
        silhouettes[count] = value
    return PromptGroups(best, silhouettes)


def directions(vectors: Float[np.ndarray, "text width"]) -> Float[np.ndarray, "text component"]:
    """Leading principal components of the directions; what all texts share is taken out."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(lengths, 1e-12)
    centred = (unit - unit.mean(0)).astype(np.float64)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    return (left * scale)[:, :COMPONENTS]


def joined(
    points: Float[np.ndarray, "text component"],
    label: Int[np.ndarray, " text"],
    images: Int[np.ndarray, " text"],
    least: int,
) -> Int[np.ndarray, " text"]:
    """Join the smallest cluster to the nearest one until all have ``least`` images.

    Labels are numbered by the first text of each cluster.
    """
    label = label.copy()
    while True:
        names = np.unique(label)
        sizes = np.array([images[label == name].sum() for name in names])
        if len(names) == 1 or sizes.min() >= least:
            break
        centres = np.stack([centre(points, images, label == name) for name in names])
        small = int(sizes.argmin())
        distance = np.linalg.norm(centres - centres[small], axis=1)
        distance[small] = np.inf
        label[label == names[small]] = names[int(distance.argmin())]
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def centre(
    points: Float[np.ndarray, "text component"],
    images: Int[np.ndarray, " text"],
    inside: np.ndarray,
) -> Float[np.ndarray, " component"]:
    """The mean of the texts in a cluster, each as often as it has images."""
    return np.average(points[inside], axis=0, weights=images[inside])


def silhouette(
    points: Float[np.ndarray, "text component"], label: Int[np.ndarray, " text"]
) -> float:
    """Mean silhouette of at most ``COMPARED`` texts, the same ones for every clustering."""
    some = np.random.default_rng(0).permutation(len(points))[:COMPARED]
    if len(np.unique(label[some])) in (1, len(some)):
        return 0.0
    return float(silhouette_score(points[some], label[some]))


def nearest_centre(
    vectors: Float[np.ndarray, "text width"],
    images: Int[np.ndarray, " text"],
    label: Int[np.ndarray, " text"],
    count: int,
) -> list[Int[np.ndarray, " chosen"]]:
    """For each group the ``count`` texts nearest its centre, nearest first: they speak for it."""
    points = directions(vectors)
    chosen = []
    for name in range(int(label.max()) + 1):
        inside = np.flatnonzero(label == name)
        offset = points[inside] - centre(points, images, label == name)
        chosen.append(inside[np.argsort(np.linalg.norm(offset, axis=1), kind="stable")[:count]])
    return chosen
