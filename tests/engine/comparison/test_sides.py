"""How the pictures of two sets belong together."""

import numpy as np
import pytest

from invdiff.core.measurement import influence
from invdiff.core.uncertainty.intervals import bootstrap_interval
from invdiff.engine.comparison.figures import Sides


def test_a_pair_cancels_what_it_shares_and_other_pictures_do_not():
    values, order = np.random.default_rng(3).normal(size=200), np.arange(200)[::-1]
    before, after = influence.mean_of(values), influence.mean_of((values - 1)[::-1])
    prompts = {"a": ("p",) * 200, "b": ("p",) * 200}
    pairs, strata, _ = Sides(prompts, order).difference(before, after)
    found = bootstrap_interval(pairs, strata)
    assert (found.value, found.low, found.high) == pytest.approx((-1, -1, -1))
    apart, strata, of = Sides(prompts, None).difference(before, after)
    assert (len(strata), len(of), set(strata)) == (400, 400, {"a p", "b p"})
    assert bootstrap_interval(apart, strata).high > -1 + 0.1
