"""Features that depend on nothing but arithmetic: the same numbers on every machine and version."""

import numpy as np


def waves(count, dims, phase):
    """A spread-out cloud (count, dims) from sines of whole numbers, float64."""
    row, column = np.arange(1.0, count + 1)[:, None], np.arange(1.0, dims + 1)
    return np.sin(12.9898 * row * column + phase) + 0.3 * np.cos(7.233 * row + column * phase)
