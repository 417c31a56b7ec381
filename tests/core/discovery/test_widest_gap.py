"""Where no prompt tells, the features choose: the clearest groups that all prompts have."""

import numpy as np
import pytest
from scipy.special import logsumexp

from invdiff.core.discovery.estimators.widest_gap import gap_nats, widest_gap
from invdiff.core.discovery.objective import mean_explained
from tests.core.planted import agree, plant

SETTINGS = {"min_share": 0.02, "false_alarm": 0.01, "seed": 0}


def search(planted, loss=None):
    rows = np.arange(len(planted.prompt))
    loss = planted.score if loss is None else loss
    return widest_gap(loss, planted.features, rows, planted.prompt, **SETTINGS)


def test_clarity_is_the_gain_in_likelihood_of_two_gaussians():
    """Groups far apart, with the memberships known: the entropy is what the mixture pays."""
    planted = plant({"a": 0.1, "b": 0.3}, count=20_000, gap=8.0, width=3)
    prompt, q = planted.prompt, planted.attribute * 1.0
    rows = [prompt == "a", prompt == "b"]

    def log_likelihood(residuals, weights):
        """Mean over images, each component's residuals from its own means; one covariance."""
        spread = sum((r * w[:, None]).T @ r for r, w in zip(residuals, weights, strict=True))
        covariance = spread / len(q)
        square = [np.einsum("nc,cd,nd->n", r, np.linalg.inv(covariance), r) for r in residuals]
        joint = [np.log(p + 1e-300) - 0.5 * s for p, s in zip(shares(weights), square, strict=True)]
        return logsumexp(joint, axis=0).mean() - 0.5 * np.linalg.slogdet(covariance)[1]

    def shares(weights):
        return [sum(r * w[r].mean() for r in rows) for w in weights]

    def around(weights):
        means = [np.average(planted.features[r], axis=0, weights=weights[r]) for r in rows]
        return planted.features - np.where(rows[0][:, None], *means)

    one = log_likelihood([around(np.ones(len(q)))], [np.ones(len(q))])
    two = log_likelihood([around(1 - q), around(q)], [1 - q, q])
    assert gap_nats(planted.features, q, prompt) == pytest.approx(two - one, abs=0.01)


def test_clarity_does_not_care_how_the_groups_are_called_or_the_axes_lie():
    planted = plant({"a": 0.1, "b": 0.2}, count=200)
    q = planted.attribute * 1.0
    turned = planted.features @ np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    expected = gap_nats(planted.features, q, planted.prompt)
    assert gap_nats(turned * 7 + 3, 1 - q, planted.prompt) == pytest.approx(expected)


def test_the_wider_gap_is_taken_although_another_explains_more_of_the_loss():
    random = np.random.default_rng(2)
    planted = plant({"a": 0.1, "b": 0.1}, count=300, gap=9.0)
    other = random.random(600) < 0.3
    planted.features[:, 3] += 5.0 * other
    loss = planted.score + 6.0 * other
    grouping = search(planted, loss)
    assert agree(grouping.against > 0.5, planted.attribute) > 0.99
    more, less = (
        mean_explained(q * 1.0, loss, planted.prompt, 0.02) for q in (other, planted.attribute)
    )
    assert more > 2 * less
    assert grouping.score == "loss"


def test_groups_that_a_prompt_lacks_are_its_neighbours_content():
    planted = plant({"a": 0.1, "b": 0.1, "c": 0.1}, count=200)
    sub = (planted.prompt == "a") & (np.arange(600) % 3 == 0)
    planted.features[:, 4] += 30.0 * sub
    grouping = search(planted)
    assert agree(grouping.against > 0.5, planted.attribute) > 0.97
    assert [verdict.found for verdict in grouping.verdicts.values()] == [True] * 3


def test_a_prompt_too_small_to_be_searched_does_not_decide():
    """Twelve pictures without the rare group, none of them scored."""
    planted = plant({"a": 0.1, "b": 0.1}, count=200)
    small = np.flatnonzero(~planted.attribute)[:12]
    prompt = planted.prompt.copy()
    prompt[small] = "c"
    scored = np.setdiff1d(np.arange(400), small)
    found = widest_gap(planted.score[scored], planted.features, scored, prompt, **SETTINGS)
    assert agree(found.against[scored] > 0.5, planted.attribute[scored]) > 0.97


def test_one_cloud_has_no_groups():
    assert search(plant({"a": 0.1, "b": 0.1}, count=1000, gap=0.0, width=4)) is None


def test_the_loss_says_whether_the_groups_are_a_skew():
    planted = plant({"a": 0.1, "b": 0.1}, count=200)
    idle = np.random.default_rng(3).normal(size=400)
    verdicts = search(planted, idle).verdicts.values()
    assert not any(verdict.found for verdict in verdicts)
