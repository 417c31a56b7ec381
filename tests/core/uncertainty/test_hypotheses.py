"""What the tests of a change take away from small imbalances, and how they measure scatter."""

import numpy as np
import pytest

from invdiff.core.measurement.parity import imbalance
from invdiff.core.uncertainty.hypotheses import redraw, scatter, shrinkage
from invdiff.core.uncertainty.sampler_paths import paths_of


def paths(*shares, images=100):
    counts = np.round(np.outer(shares, [images, 0])).astype(int)
    counts[:, 1] = images - counts[:, 0]
    return paths_of(counts, imbalance(2))


def test_what_chance_explains_is_taken_away():
    """Nothing is left at parity, nearly all two standard errors off it, all far away."""
    assert shrinkage([paths(0.5, 0.51), paths(0.49, 0.5)], 500, 0) == 0
    near = shrinkage([paths(0.6, 0.4, 0.6, 0.4)] * 2, 500, 0)
    assert near == pytest.approx(1 - (8 / 32) ** 2, abs=0.02)  # 8 imbalances of 2 units each
    assert shrinkage([paths(0.9, 0.1)] * 2, 500, 0) > 0.999


def test_scatter_is_the_variance_of_the_corrected_values():
    """Between the places where it is known, too; and it is never 0."""
    known = paths(0.9, 0.3)
    of = scatter(known, seed=0)
    for values in (known.largest * 0.25, np.array([0.8, 0.4])):
        drawn = known.corrected(redraw(known.at(values), known.totals, 20_000, 1))
        assert of(values[None])[0] == pytest.approx(drawn.var(0).sum(), rel=0.3)
    assert of(known.largest[None])[0] > 1e-5
    assert of(np.zeros((1, 2)))[0] < of(np.full((1, 2), 0.5))[0]
