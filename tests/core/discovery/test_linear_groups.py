"""One linear model of the groups, fitted to the objective of the max step."""

import numpy as np
import pytest
import torch

from invdiff.core.discovery import linear_groups, objective
from tests.core.planted import plant

SHARES = {"few": 0.1, "most": 0.9}


# The objective, trained end to end


def test_the_objective_is_the_one_that_candidates_are_ranked_by():
    planted = plant(SHARES, count=100)
    member = np.random.default_rng(0).random(len(planted.prompt)) * 0.5
    member += 0.4 * (planted.prompt == "few")
    rows = [planted.prompt == name for name in np.unique(planted.prompt)]
    q = [torch.from_numpy(member[r]) for r in rows]
    r = [torch.from_numpy(planted.score[r]) for r in rows]
    wanted = objective.objective(member, planted.score, planted.prompt, 0.02)
    assert objective.differentiable_objective(q, r).item() == pytest.approx(wanted)
    single = objective.objective(member[rows[0]], planted.score[rows[0]], np.full(100, "a"), 0.02)
    assert objective.differentiable_objective(q[:1], r[:1]).item() == pytest.approx(single)


def test_a_planted_attribute_is_found_by_training_on_the_objective():
    planted = plant(SHARES)
    model = linear_groups.fit_linear_groups(planted.features, planted.score, planted.prompt)
    same = ((model(planted.features, planted.prompt) > 0.5) == planted.attribute).mean()
    assert max(same, 1 - same) > 0.95, "one side is the attribute, in all prompts"


def test_a_prompt_that_was_not_fitted_has_the_mean_of_the_offsets():
    model = linear_groups.LinearGroups(np.array([2.0]), {"a": 1.0, "b": 3.0})
    found = model(np.array([[0.0], [0.0], [-1.0]]), np.array(["a", "c", "c"]))
    assert found == pytest.approx(1 / (1 + np.exp([-1.0, -2.0, 0.0])))
