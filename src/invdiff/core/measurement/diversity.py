"""How different the images of one prompt are from each other, in the features of some extractor."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from invdiff.core.measurement.fidelity import ROWS, require_features
from invdiff.core.measurement.influence import InfluenceExpansion
from invdiff.errors import InvDiffError


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
    distances = [_mean_distances(unit[rows], len(rows) - (not with_itself)) for rows in rows_of]
    value = float(np.mean([of_prompt.mean() for of_prompt in distances]))
    parts = np.zeros(len(features))
    for rows, of_prompt in zip(rows_of, distances, strict=True):
        moved = 2 * (of_prompt - of_prompt.mean()) + (of_prompt.mean() - value)
        parts[rows] = moved / len(rows) / len(rows_of)
    return InfluenceExpansion(value, parts, np.zeros(0))


def _mean_distances(
    points: Float[np.ndarray, "image feature"], others: int
) -> Float[np.ndarray, " image"]:
    """Sum of each point's distances to all points, over ``others``."""
    tensor = torch.from_numpy(points).double()
    exact = "donot_use_mm_for_euclid_dist"
    sums = [torch.cdist(part, tensor, compute_mode=exact).sum(1) for part in tensor.split(ROWS)]
    return torch.cat(sums).numpy() / others
