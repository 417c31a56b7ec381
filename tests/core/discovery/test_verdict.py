"""What the groups explain, whether that is anything, and whether two groupings agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from invdiff.core.discovery import objective, verdict

MEMBERS = st.integers(4, 30).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=st.floats(0, 1, width=32)),
        arrays(np.float64, n, elements=st.floats(-100, 100, width=32)),
    )
)


@given(MEMBERS)
def test_explained_variance_is_the_share_between_the_groups(pair):
    q, score = pair
    found = objective.explained_variance(q, score, 0.1)
    if not 0.1 <= q.mean() <= 0.9 or score.var() == 0:
        assert found == 0
        return
    means = [np.average(score, weights=w) for w in (1 - q, q)]
    between = np.average((np.array(means) - score.mean()) ** 2, weights=[1 - q.mean(), q.mean()])
    assert found == pytest.approx(between / score.var(), rel=1e-6, abs=1e-9)
    assert 0 <= found <= 1 + 1e-9
    assert found == pytest.approx(objective.explained_variance(1 - q, score, 0.1), abs=1e-9)


def test_two_values_are_explained_in_full_by_who_has_which():
    member = np.array([0.0, 0, 0, 1, 1])
    assert objective.explained_variance(member, 3 - 2 * member, 0.02) == pytest.approx(1)


def judged(against, score, candidates=1, **changes):
    count = len(against)
    settings = {"min_share": 0.02, "false_alarm": 0.01, "candidates": candidates} | changes
    return verdict.judge_prompt(
        np.asarray(against, float), score, np.arange(count), np.ones(count, bool), **settings
    )


def made(share, effect, count=200):
    random = np.random.default_rng(0)
    against = (np.arange(count) < share * count) * 1.0
    return against, random.normal(size=count) + effect * against


def test_a_verdict_is_corrected_for_the_number_of_candidates():
    against, score = made(0.2, 0.7)
    one, many = judged(against, score), judged(against, score, candidates=10**6)
    assert one.found
    assert not many.found
    assert many.p_value == pytest.approx(min(1, 10**6 * one.p_value))
    assert one.explained == many.explained > verdict.LEAST_EXPLAINED


def test_even_groups_need_no_balancing_however_clear_they_are():
    found = judged(*made(0.5, 5.0))
    assert not found.found
    assert found.monitored
    assert found.note == "nothing to balance: the groups are even already"
    assert found.share == 0.5


def test_what_is_wanted_decides_what_has_to_be_balanced():
    found = judged(*made(0.3, 5.0), wanted=0.3)
    assert (found.found, found.monitored) == (False, True)
    assert found.note == "nothing to balance: the groups are 70% and 30% already"
    assert judged(*made(0.5, 5.0), wanted=0.3).found


def test_a_tiny_relation_is_not_a_finding_however_certain():
    against, score = made(0.2, 0.2, count=20_000)
    found = judged(against, score)
    assert found.p_value < 1e-9
    assert found.note == "nothing to balance: the groups do not differ in the score"


@pytest.mark.parametrize(
    ("against", "score"),
    [
        (np.ones(5), np.arange(5.0)),
        (np.ones(50), np.arange(50.0)),
        (np.arange(50) % 2, np.ones(50)),
    ],
    ids=["few images", "one group", "one score"],
)
def test_without_anything_to_test_nothing_is_found(against, score):
    found = judged(against, score)
    assert not found.found
    assert found.p_value == 1.0
    assert found.note == "too few images or no groups to test"


def test_the_share_is_that_of_all_images_the_test_of_the_scored_ones():
    against, score = made(0.2, 3.0)
    scored = np.arange(0, 100)  # all 40 members are among them
    found = verdict.judge_prompt(
        against, score[scored], scored, np.ones(200, bool),
        min_share=0.02, false_alarm=0.01, candidates=1,
    )  # fmt: skip
    assert found.share == pytest.approx(0.2)
    wanted = objective.explained_variance(against[scored], score[scored], 0.02)
    assert found.explained == pytest.approx(wanted)


@given(arrays(np.float64, 20, elements=st.floats(0, 1)))
def test_agreement_is_the_share_on_the_same_side(q):
    prompt = np.repeat(["a", "b"], [5, 15])
    assert verdict.group_agreement(q, q, prompt) == 1
    other = q.copy()
    other[:5] = np.where(q[:5] > 0.5, 0.0, 1.0)
    assert verdict.group_agreement(q, other, prompt) == pytest.approx(0.5)  # prompts count alike
