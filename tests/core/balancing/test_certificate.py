"""The bound against random mixtures, its equality cases, and risks against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from invdiff.core.balancing import certificate as cert
from invdiff.errors import InvDiffError

SIZES = st.integers(1, 8)
RISKS = arrays(np.float64, SIZES, elements=st.floats(-10, 10, width=32))
LAMBDAS = st.floats(1e-3, 1e3)


@given(RISKS, LAMBDAS, st.randoms())
def test_no_mixture_exceeds_the_bounds(risks, variance_weight, random):
    raw = np.array([random.random() ** 3 + 1e-9 for _ in risks])
    mixture = raw / raw.sum()
    tight = cert.tight_bound(risks)
    assert mixture @ risks <= risks.max() + 1e-9
    assert risks.max() <= tight + 1e-9
    assert tight <= cert.bound(risks, variance_weight) + 1e-9


@given(st.integers(2, 8), st.floats(-5, 5), st.floats(0.01, 5))
def test_one_group_against_equal_others_reaches_the_tight_bound(groups, level, gap):
    risks = np.full(groups, level)
    risks[-1] += gap
    assert cert.tight_bound(risks) == pytest.approx(level + gap)
    best = np.sqrt((groups - 1) / risks.var()) / 2
    assert cert.bound(risks, best) == pytest.approx(level + gap)
    assert cert.bound(risks, 2 * best) > level + gap


def test_one_group_alone_is_its_own_bound():
    assert cert.tight_bound(np.array([0.3])) == pytest.approx(0.3)
    assert cert.bound(np.array([0.3]), 2.0) == pytest.approx(0.3)


@given(RISKS)
def test_the_worst_mixture_has_the_largest_risk(risks):
    mixture = cert.worst_mixture(risks)
    assert mixture.sum() == pytest.approx(1)
    assert (mixture >= 0).all()
    assert mixture @ risks == pytest.approx(risks.max())


def test_a_bound_needs_a_positive_variance_weight():
    with pytest.raises(InvDiffError, match="above 0, not 0"):
        cert.bound(np.array([0.1, 0.2]), 0.0)


def example(seed=0, images=60):
    random = np.random.default_rng(seed)
    prompts = ["hat", "plain"] * (images // 2)
    weights = random.dirichlet([0.5, 0.5], images)
    losses = random.normal(1, 0.2, images) + weights[:, 1]
    return losses, prompts, weights


def test_group_risks_agree_with_loops():
    losses, prompts, weights = example()
    found = cert.certificate(losses, prompts, weights)
    assert [(g["prompt"], g["group"]) for g in found["groups"]] == [
        ("hat", 0), ("hat", 1), ("plain", 0), ("plain", 1),
    ]  # fmt: skip
    for group in found["groups"]:
        own = [i for i, prompt in enumerate(prompts) if prompt == group["prompt"]]
        mass = sum(weights[i, group["group"]] for i in own)
        risk = sum(weights[i, group["group"]] * losses[i] for i in own) / mass
        assert group["risk"] == pytest.approx(risk)
        assert group["images"] == round(mass)
        assert group["low"] < risk < group["high"]
    risks = [group["risk"] for group in found["groups"]]
    assert found["mean"] == pytest.approx(np.mean(risks))
    assert found["variance"] == pytest.approx(np.var(risks))
    assert found["worst"] == max(risks) <= found["bound"]
    assert found["worst_mixture"] == [float(r == max(risks)) for r in risks]


def test_the_interval_of_a_hard_group_is_that_of_its_mean():
    losses = np.random.default_rng(3).normal(size=400)
    found = cert.group_risks(losses, np.zeros(400, int), np.ones((400, 1)))[0]
    half = 1.959964 * losses.std() / 20
    assert found["high"] - found["risk"] == pytest.approx(half)
    assert found["risk"] - found["low"] == pytest.approx(half)


def test_intervals_cover_the_truth():
    covered = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        weights = random.dirichlet([1, 1], 100)
        losses = random.normal(0.5, 1, 100)
        group = cert.group_risks(losses, np.zeros(100, int), weights)[1]
        covered += group["low"] <= 0.5 <= group["high"]
    assert 0.90 <= covered / 300 <= 0.98


def test_an_absent_group_is_nan_with_no_images_and_takes_no_part():
    weights = np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    found = cert.certificate(np.array([1.0, 2.0, 3.0, 5.0]), ["a", "a", "b", "b"], weights)
    absent = found["groups"][1]
    assert np.isnan(absent["risk"])
    assert absent["images"] == 0
    assert found["worst_mixture"] == [0, 0, 0.5, 0.5]
    assert found["mean"] == pytest.approx((1.5 + 4 + 4) / 3)


def test_one_image_has_a_risk_but_no_interval():
    group = cert.group_risks(np.array([0.7]), np.array([0]), np.array([[1.0]]))[0]
    assert group["risk"] == 0.7
    assert np.isnan(group["low"])


def test_broken_losses_and_weights_are_refused():
    losses, prompts, weights = example()
    with pytest.raises(InvDiffError, match="1 of 60 losses are not finite"):
        cert.certificate(np.where(np.arange(60) == 5, np.nan, losses), prompts, weights)
    with pytest.raises(InvDiffError, match="weights must be finite"):
        cert.certificate(losses, prompts, -weights)
    with pytest.raises(InvDiffError, match="weights must be finite"):
        cert.certificate(losses, prompts, 0 * weights)
