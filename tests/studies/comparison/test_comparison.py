"""The parts of the method that exist to be compared with, by themselves."""

import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from invdiff.app import api
from invdiff.core.diffusion.schedule import Schedule, flow_schedule, loss_weight
from invdiff.engine.discovery.estimators import ESTIMATORS
from invdiff.engine.settings.study import StudySection
from invdiff.engine.training.mixture import RISKS
from invdiff.studies import comparison
from invdiff.studies.comparison import objectives
from invdiff.studies.comparison.estimators import top_share
from invdiff.studies.comparison.objectives import epsilon_weight, worst_case_shares
from tests.core.planted import plant

SHARES = {"few": 0.1, "most": 0.9}
EVEN = np.array([0.5, 0.5])


def test_every_name_in_the_settings_is_registered():
    comparison.register()
    fields = StudySection.model_fields
    assert {""} | set(ESTIMATORS) == set(fields["estimator"].annotation.__args__)
    assert set(RISKS) == set(fields["objective"].annotation.__args__)


@pytest.mark.parametrize("name", objectives.COMPARED)
def test_objectives_reach_the_processes_that_train_along(name):
    """Those import what they are sent, and nothing of the studies by themselves."""
    assert pickle.loads(pickle.dumps(objectives.COMPARED[name])) == objectives.COMPARED[name]


def test_a_run_with_such_settings_knows_them_by_itself(tmp_path, monkeypatch):
    stub = SimpleNamespace(discover=lambda session: {})
    monkeypatch.setitem(sys.modules, "stub", stub)
    monkeypatch.setitem(api.STAGE_HOMES, "discover", ("stub", "discover"))
    for changes, known in (({}, False), ({"estimator": "none"}, True)):
        monkeypatch.delitem(ESTIMATORS, "none", raising=False)
        api.Run(tmp_path / str(known), {"study": changes}).discover()
        assert ("none" in ESTIMATORS) is known


def balanced_accuracy(found, truth):
    return 0.5 * (found[truth].mean() + (1 - found)[~truth].mean())


def unusual(planted):
    found = np.zeros(len(planted.prompt), bool)
    for name in np.unique(planted.prompt):
        found[planted.prompt == name] = planted.unusual(name)
    return found


# The plain loss


def test_the_top_share_is_that_of_each_prompt():
    loss = np.concatenate([np.arange(10.0), 100 + np.arange(20.0)])
    member = top_share(loss, np.repeat(["a", "b"], [10, 20]), 0.2)
    assert np.flatnonzero(member).tolist() == [8, 9, 26, 27, 28, 29]


@pytest.mark.parametrize(("effect", "low", "high"), [(4.0, 0.85, 1.0), (0.0, 0.42, 0.58)])
def test_the_top_of_the_loss_finds_what_the_loss_shows(effect, low, high):
    planted = plant(SHARES, effect=effect)
    found = top_share(planted.score, planted.prompt, 0.2)
    assert low < balanced_accuracy(found * 1.0, unusual(planted)) < high


# GroupDRO


def test_groupdro_is_exponentiated_gradient_on_the_worst_group():
    """q <- q exp(step L) / sum, time after time, is what comes of the sums."""
    random = np.random.default_rng(0)
    risks, shares = random.random((6, 3)), np.array([0.5, 0.3, 0.2])
    q = shares.copy()
    for seen in risks:
        q = q * np.exp(0.4 * seen)
        q /= q.sum()
    np.testing.assert_allclose(worst_case_shares(risks.sum(0), shares, 0.4), q)
    np.testing.assert_allclose(worst_case_shares(np.zeros(3), shares, 0.4), shares)
    far = worst_case_shares(np.array([0.0, 1e6]), EVEN, 0.1)
    assert far == pytest.approx([0, 1])


def test_groupdro_ends_with_the_group_that_is_harder_whatever_was_learnt():
    irreducible = np.array([0.27, 0.31])
    assert worst_case_shares(1000 * irreducible, EVEN, 0.1)[1] > 0.98


# The loss of epsilon


@pytest.mark.parametrize(
    "schedule", [Schedule(torch.linspace(0.999, 0.01, 100), "v"), flow_schedule(99)]
)
def test_epsilon_all_but_ignores_high_noise_and_v_does_not(schedule):
    steps = torch.tensor([5, 99])
    low, high = epsilon_weight(schedule, steps).tolist()
    assert high < 0.01 * low
    ratio = epsilon_weight(schedule, steps) / loss_weight(schedule, steps)
    torch.testing.assert_close(ratio, schedule.alphas_cumprod[steps])
