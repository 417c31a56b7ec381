"""Several attributes at once: their crossed values as the groups of a prompt."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from invdiff.core.discovery.attributes import InferredAttribute
from invdiff.core.groups.several_groups import NEVER, MultiGroupModel


def cross(
    attributes: Sequence[InferredAttribute],
    name: str,
    rows: Bool[np.ndarray, " picture"],
    min_share: float,
) -> tuple[MultiGroupModel, tuple[str, ...]]:
    """The model of the crossed values under the prompt ``name``, and what its groups are called.

    ``rows`` says which pictures are the prompt's. With m attributes there are 2^m groups, the more
    frequent the earlier. A crossed value of less than ``min_share`` of the pictures is absent: its
    pictures count for the most likely one that is there. Given the picture the attributes are taken
    for independent of each other.
    """
    width = len(attributes[0].models[name].weight)
    weight, bias, words = np.zeros((width, 1)), np.zeros(1), [""]
    known = np.ones((1, int(rows.sum())))  # a row for each crossed value, a column for each picture
    for one in attributes:
        start, slope, _ = one.models[name].ratio
        along, q = slope * one.models[name].weight, one.q[rows]
        known = (known[:, None] * np.stack([1 - q, q])).reshape(-1, len(q))
        weight = np.stack([weight, weight + along[:, None]], 2).reshape(width, -1)
        bias = np.stack([bias, bias + start], 1).ravel()
        words = [f"{before} {one.id}={value}".strip() for before in words for value in (0, 1)]
    shares = known.mean(1)
    there = shares >= min_share
    there[shares.argmax()] = True
    order = np.lexsort((np.arange(len(shares)), -np.where(there, shares, -1.0)))
    first = order[0]
    kept = np.where(there, shares, 0.0)
    prior = np.log(np.clip(kept / kept.sum(), 1e-12, None))
    model = MultiGroupModel(
        (weight - weight[:, [first]])[:, order[1:]],
        np.where(there, bias - bias[first], NEVER)[order[1:]],
        (prior - prior[first])[order[1:]],
    )
    return model, tuple(words[k] for k in order)
