"""Scores in chunks get the cut and the mixture that they get in one piece."""

import numpy as np
import pytest

from benchmarks import streams
from benchmarks.streams import exact_cut, summarise, two_gaussians
from invdiff.core.discovery.candidates import exact_split
from invdiff.core.discovery.refinement import fit_gaussians_on_direction
from invdiff.core.groups.two_groups import membership


def scores(kind, count=5000, seed=0):
    draw = np.random.default_rng(seed)
    made = {
        "two hills": lambda: np.where(draw.random(count) < 0.1, 4, 0) + draw.normal(size=count),
        "one hill": lambda: draw.normal(size=count),
        "long tail": lambda: draw.standard_t(1.5, count),
        "few values": lambda: draw.integers(0, 6, count) * 1.0,
        "far from zero": lambda: 1e3 + draw.normal(size=count) * 1e-3,
        "sorted": lambda: np.sort(draw.exponential(size=count)),
    }
    return made[kind]()


def in_chunks(values, size):
    return lambda: (values[at : at + size] for at in range(0, len(values), size))


KINDS = ["two hills", "one hill", "long tail", "few values", "far from zero", "sorted"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("min_share", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("bins", [4, 4096])
def test_the_cut_is_that_of_the_exact_split(kind, min_share, bins, monkeypatch):
    """Few bins: the best cut is then inside one, not at its edge."""
    monkeypatch.setattr(streams, "BINS", bins)
    for seed in range(4):
        values = scores(kind, seed=seed)
        cut = exact_cut(in_chunks(values, 700), min_share)
        assert np.array_equal(values > cut, exact_split(values, min_share)), (kind, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_no_cut_inside_a_bin_beats_its_bound(kind):
    values = np.sort(scores(kind))
    count, edges = len(values), np.unique(np.quantile(values, np.linspace(0, 1, 9)[1:-1]))
    counts, sums, low, high = streams._bins(in_chunks(values, 700), edges, values.mean())
    before, below = streams._starts(counts), streams._starts(sums)
    bound = streams._bound(before, below, counts, sums, low, high, count)
    sizes = np.arange(1, count + 1)
    between = streams._between(sizes, np.cumsum(values - values.mean()), count)
    for k in np.flatnonzero(counts):
        inside = between[before[k] : before[k + 1]].max()
        assert inside <= bound[k] * (1 + 1e-9) + 1e-12, k


def test_few_bins_are_looked_into(monkeypatch):
    """Else memory grows with the scores."""
    looked, gather = [], streams._gather

    def counted(chunks, edges, wanted):
        found = gather(chunks, edges, wanted)
        looked.append(sum(map(len, found.values())))
        return found

    monkeypatch.setattr(streams, "_gather", counted)
    for kind in ("two hills", "one hill"):
        exact_cut(in_chunks(scores(kind, 50_000), 7000), 0.02)
    assert max(looked) < 0.05 * 50_000


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_scores_have_no_cut_that_leaves_both_sides(count):
    assert np.isnan(exact_cut(in_chunks(np.arange(count) * 1.0, 1), 0.6))


def test_equal_scores_have_no_two_sides():
    values = np.full(100, 3.0)
    assert not (values > exact_cut(in_chunks(values, 30), 0.0)).any()


def test_a_sample_is_spread_evenly_whatever_the_chunks_are():
    values = np.arange(10_000.0)
    kept = [summarise(in_chunks(values, size), most=1000) for size in (1, 37, 10_000)]
    assert all(np.array_equal(one.sample, kept[0].sample) for one in kept)
    assert np.ptp(np.diff(kept[0].sample)) == 0
    assert 500 < len(kept[0].sample) <= 1000
    assert kept[1].count == 10_000
    assert kept[1].mean == pytest.approx(4999.5)


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_the_mixture_is_that_of_all_scores_in_memory(spread):
    values = 7 + spread * scores("two hills", 20_000)
    ratio, prior, means = two_gaussians(in_chunks(values, 3000))
    q = membership(values, ratio, prior)
    expected = membership(
        values, *fit_gaussians_on_direction(values, (values > np.quantile(values, 0.8)) * 1.0)
    )
    np.testing.assert_allclose(q, expected, atol=5e-3)
    np.testing.assert_allclose(means, [7, 7 + 4 * spread], atol=0.1 * spread)


def test_the_mixture_sees_more_than_the_sample():
    """A sample of 64 alone would miss the few."""
    values = scores("two hills", 20_000)
    ratio, prior, means = two_gaussians(
        in_chunks(values, 3000), summarise(in_chunks(values, 3000), 64)
    )
    assert membership(values, ratio, prior).mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_allclose(means, [0, 4], atol=0.1)
