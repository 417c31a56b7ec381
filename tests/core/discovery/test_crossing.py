"""Two attributes balanced together: their crossed values are the groups."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from invdiff.core.discovery.attributes import InferredAttribute
from invdiff.core.discovery.crossing import cross
from invdiff.core.discovery.grouping import infer_groups
from invdiff.core.discovery.objective import Measures
from invdiff.core.groups.memberships import hard
from invdiff.core.groups.two_groups import GroupModel
from tests.core.planted import plant_several

SHARES = {"one": (0.8, 0.3), "two": (0.2, 0.7), "three": (0.3, 0.3), "four": (0.7, 0.8)}


def attribute(name, axis, q, features):
    """An attribute that is read off one feature: 1 above 0."""
    model = GroupModel(np.eye(features.shape[1])[axis], (0.0, 8.0, 0.0), 0.0)
    measures = Measures(0.1, 0.1, (1.0,), 1.0)
    return InferredAttribute(
        name, "", ("p",), q, np.array([q.mean()]), measures, 3.0, 1.0, 1.0, 0.0, True, {"p": model}
    )


def test_crossed_values_are_named_ordered_by_frequency_and_read_off_the_features():
    random = np.random.default_rng(0)
    bits = random.random((4000, 2)) < [0.2, 0.4]
    features = np.where(bits, 1.5, -1.5) + random.normal(0, 0.3, (4000, 2))
    pair = [attribute(name, k, bits[:, k] * 1.0, features) for k, name in enumerate("ab")]
    model, words = cross(pair, "p", np.ones(4000, bool), min_share=0.02)
    assert words == ("a=0 b=0", "a=0 b=1", "a=1 b=0", "a=1 b=1")  # 48, 32, 12 and 8 %
    np.testing.assert_array_equal(hard(model(features)), 2 * bits[:, 0] + bits[:, 1])
    assert model(features).mean(0) == pytest.approx([0.48, 0.32, 0.12, 0.08], abs=0.02)


def test_a_crossed_value_that_hardly_anybody_has_is_absent():
    random = np.random.default_rng(0)
    one = np.arange(1000) < 500
    other = one & (random.random(1000) < 0.98) | (np.arange(1000) >= 995)
    features = np.where(np.stack([one, other], 1), 1.5, -1.5) * 1.0
    pair = [
        attribute(n, k, v * 1.0, features)
        for k, (n, v) in enumerate(zip("ab", (one, other), strict=True))
    ]
    model, words = cross(pair, "p", np.ones(1000, bool), min_share=0.02)
    assert words[:2] == ("a=1 b=1", "a=0 b=0") or words[:2] == ("a=0 b=0", "a=1 b=1")
    assert model.present.tolist() == [True, True, False, False]
    assert model(features)[:, 2:].max() < 1e-6


def test_two_tied_attributes_are_balanced_over_their_crossed_values():
    features, contrasts, prompt, truth = plant_several(SHARES, 400, gaps=(6, 6))
    scored = np.arange(len(prompt))
    own = np.array([contrasts.names.index(name) for name in prompt])
    score = contrasts.losses.mean(2)[scored, own]
    found = infer_groups(
        score, score, lambda: contrasts, features, scored, prompt,
        min_share=0.02, false_alarm=0.01, seed=0, most=2,
    )  # fmt: skip
    assert found.against.shape == (len(prompt), 4)
    assert len(found.chosen.split("+")) == 2
    for name, (first, second) in SHARES.items():
        rows = prompt == name
        crossed = 2 * truth[rows, 0] + truth[rows, 1]
        assert adjusted_rand_score(crossed, hard(found.against[rows])) > 0.9
        verdict = found.verdicts[name]
        expected = sorted(np.outer([first, 1 - first], [second, 1 - second]).ravel())[::-1]
        assert verdict.found
        assert verdict.mix == pytest.approx(expected, abs=0.06)
        assert len(found.names[name]) == 4
