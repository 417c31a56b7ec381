"""Whether prompts are lost: the exact test against another library, its size and its power."""

import numpy as np
import pytest
from scipy.stats import fisher_exact

from invdiff.core.measurement.content import FALSE_VETO, prompts_lost, shows_own_prompt


def test_a_picture_shows_the_prompt_that_it_costs_least_under():
    losses = np.array([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.2, 0.3, 0.1]])
    assert shows_own_prompt(losses).tolist() == [True, False, False]


@pytest.mark.parametrize(("base", "guided"), [((60, 64), (50, 64)), ((9, 10), (20, 40))])
def test_of_one_prompt_it_is_fishers_exact_test(base, guided):
    table = [[guided[0], guided[1] - guided[0]], [base[0], base[1] - base[0]]]
    expected = fisher_exact(table, alternative="less").pvalue
    assert prompts_lost([base], [guided]) == pytest.approx(expected)


def test_of_several_prompts_it_is_that_of_mantel_and_haenszel():
    """Two strata by enumeration: the chance of at most 2 + 1, given the sums of both."""
    base, guided = [(4, 4), (3, 4)], [(2, 4), (1, 4)]
    # stratum 1: 6 of 8 show it, 4 are guided; stratum 2: 4 of 8
    first = np.array([0, 0, 15, 40, 15]) / 70
    second = np.array([1, 16, 36, 16, 1]) / 70
    together = np.convolve(first, second)[: 3 + 1].sum()
    alone = min(
        fisher_exact([[2, 2], [4, 0]], "less")[1], fisher_exact([[1, 3], [3, 1]], "less")[1]
    )
    assert prompts_lost(base, guided) == pytest.approx(min(1, 2 * min(together, 2 * alone)))


@pytest.mark.parametrize("shares", [(0.95,), (0.5, 0.9), (0.97, 0.95, 0.8, 0.6)])
def test_what_loses_nothing_is_vetoed_as_rarely_as_it_says(shares):
    draw = np.random.default_rng(0)

    def drawn():
        return [(int(draw.binomial(64, share)), 64) for share in shares]

    vetoed = np.mean([prompts_lost(drawn(), drawn()) < FALSE_VETO for _ in range(2000)])
    assert vetoed < 1.5 * FALSE_VETO


def test_one_prompt_of_many_that_is_lost_is_enough():
    base = [(60, 64)] * 12
    assert prompts_lost(base, [(30, 64), *base[1:]]) < FALSE_VETO
    assert prompts_lost(base, [(56, 64)] * 12) < FALSE_VETO, "a little of all of them is enough too"
    assert prompts_lost(base, [(64, 64)] * 12) == pytest.approx(1)


def test_without_a_prompt_nothing_is_lost():
    assert prompts_lost([], []) == 1
