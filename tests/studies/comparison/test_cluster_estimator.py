"""The estimator of more than two groups on planted features."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from invdiff.core.groups.two_groups import GroupModel
from invdiff.studies.comparison import clusters as by_cluster
from invdiff.studies.comparison.clusters import cluster_mutual_information, clusters, explained
from invdiff.studies.comparison.shared_clusters import best, fit_shared_clusters
from tests.core.planted import ROTATED, corners

RULES = {"min_share": 0.02, "false_alarm": 0.01, "seed": 0, "most": 8}


def even(groups):
    return 0.5 if groups == 2 else [1 / groups] * groups


def search(features, score, prompt, scored=None, **rules):
    rows = np.arange(len(prompt)) if scored is None else scored
    return clusters(score[rows], features, rows, prompt, wanted=even, **RULES | rules)


@pytest.fixture(scope="module")
def four():
    return corners(ROTATED)


@pytest.fixture(scope="module")
def found(four):
    features, score, prompt, _ = four
    return search(features, score, prompt)


def test_four_planted_groups_are_found_as_four(four, found):
    _, score, prompt, group = four
    assert found.against.shape == (len(group), 4)
    assert found.chosen.startswith("4 clusters")
    np.testing.assert_allclose(found.against.sum(1), 1)
    assert all(verdict.found for verdict in found.verdicts.values())
    for name in ROTATED:
        rows = prompt == name
        told = found.against[rows].argmax(1)
        assert adjusted_rand_score(group[rows], told) > 0.9
        means = [score[rows][told == one].mean() for one in range(4)]
        assert means == sorted(means), "the higher the number, the more against the model"
        np.testing.assert_allclose(
            found.verdicts[name].mix, np.bincount(told, minlength=4) / rows.sum(), atol=0.03
        )


def test_prompts_that_lie_apart_make_no_cluster(four):
    """All prompts share the clusters, though their content moves them by more than the groups."""
    features, _, prompt, _ = four
    middle = [features[prompt == name].mean(0) for name in ROTATED]
    assert np.linalg.norm(middle[0] - middle[1]) > 5
    same, _, own, _ = corners(ROTATED, gap=0.0)
    known = best(same, np.unique(own, return_inverse=True)[1], range(2, 5), 0.02, 0)
    assert min(known, key=lambda count: known[count].criterion) == 1


def test_two_planted_groups_are_two_and_written_as_two():
    features, score, prompt, group = corners({"a": (9, 1), "b": (1, 9), "c": (8, 2)})
    found = search(features, score, prompt)
    assert found.against.ndim == 1
    assert found.chosen.startswith("2 clusters")
    assert all(isinstance(model, GroupModel) for model in found.models.values())
    for name, rare in {"a": 1, "b": 0, "c": 1}.items():
        rows = prompt == name
        assert ((found.against[rows] > 0.5) == (group[rows] == rare)).mean() > 0.97
        model = found.models[name]
        np.testing.assert_allclose(model(features[rows]), found.against[rows], atol=1e-9)


def test_one_cloud_has_no_groups():
    features, score, prompt, _ = corners(ROTATED, gap=0.0)
    found = search(features, score, prompt)
    assert not any(verdict.found or verdict.monitored for verdict in found.verdicts.values())
    assert "no clusters" in found.verdicts["a"].note
    assert (found.against == 0).all()


def test_clusters_in_the_same_shares_everywhere_are_nothing_to_balance():
    features, score, prompt, _ = corners(dict.fromkeys("abcd", (3, 2, 1, 1)))
    found = search(features, score, prompt)
    assert not any(verdict.found for verdict in found.verdicts.values())
    assert "tied to the prompt" in found.verdicts["a"].note


def test_what_only_one_prompt_has_is_its_content():
    """A cluster of one prompt's own images is tied to it, but says nothing about a skew."""
    even = {"a": (1, 1, 0, 0), "b": (1, 1, 0, 0), "c": (0, 0, 1, 1)}
    features, score, prompt, group = corners(even)
    score += 2.0 * (group % 2)
    assert cluster_mutual_information(np.eye(4)[group], prompt) == 0
    found = search(features, score, prompt)
    assert found.against.shape[1] > 2, "the prompts do not show them alike"
    assert not any(verdict.found for verdict in found.verdicts.values())
    assert "tied to the prompt" in found.verdicts["c"].note


def test_clusters_that_the_score_does_not_tell_are_nothing_to_balance():
    features, score, prompt, _ = corners(ROTATED, effect=0.0)
    found = search(features, score, prompt)
    assert not any(verdict.found for verdict in found.verdicts.values())
    assert "do not differ in the score" in found.verdicts["a"].note


def test_groups_in_the_wanted_mix_are_watched_alone(four):
    features, score, prompt, _ = four
    mix = [3 / 7, 2 / 7, 1 / 7, 1 / 7]
    rows = np.arange(len(prompt))
    found = clusters(score, features, rows, prompt, wanted=lambda _: mix, **RULES)
    assert not any(verdict.found for verdict in found.verdicts.values())
    assert all(verdict.monitored for verdict in found.verdicts.values())


def test_a_single_prompt_is_judged_by_its_score():
    features, score, prompt, group = corners({"a": (5, 3, 1)}, count=450)
    found = search(features, score, prompt)
    assert found.verdicts["a"].found
    assert adjusted_rand_score(group, found.against.argmax(1)) > 0.9


def test_a_group_that_a_prompt_lacks_is_last_and_empty():
    shares = {"a": (3, 2, 1), "b": (1, 3, 2), "c": (2, 0, 3)}
    features, score, prompt, group = corners(shares)
    found = search(features, score, prompt)
    model, rows = found.models["c"], prompt == "c"
    assert model.present.tolist() == [True, True, False]
    assert found.against[rows][:, 2].max() < 1e-9
    assert adjusted_rand_score(group[rows], found.against[rows].argmax(1)) > 0.9
    assert found.verdicts["c"].mix[2] < 1e-9


def test_there_are_no_more_groups_than_are_allowed(four):
    features, score, prompt, _ = four
    found = search(features, score, prompt, most=3)
    assert found.against.shape[1] == 3


def test_images_that_were_not_scored_have_groups_too(four):
    features, score, prompt, group = four
    scored = np.sort(np.random.default_rng(1).permutation(len(prompt))[:400])
    found = search(features, score, prompt, scored)
    unseen = np.setdiff1d(np.arange(len(prompt)), scored)
    for name in ROTATED:
        rows = unseen[prompt[unseen] == name]
        assert adjusted_rand_score(group[rows], found.against[rows].argmax(1)) > 0.9


def test_the_tie_is_the_mutual_information():
    shares = np.array([[3, 2, 1, 1], [1, 3, 2, 1]]) / 7
    group = [np.repeat(np.arange(4), np.round(row * 700).astype(int)) for row in shares]
    prompt = np.repeat([0, 1], 700)
    joint = shares / 2
    apart = joint.sum(0) * joint.sum(1, keepdims=True)
    assert cluster_mutual_information(np.eye(4)[np.concatenate(group)], prompt) == pytest.approx(
        (joint * np.log(joint / apart)).sum()
    )


def test_explained_is_the_share_of_the_variance_between_the_groups(four):
    _, score, prompt, group = four
    rows = prompt == "a"
    means = np.array([score[rows][group[rows] == one].mean() for one in range(4)])
    wanted = means[group[rows]].var() / score[rows].var()
    assert explained(np.eye(4)[group[rows]], score[rows]) == pytest.approx(wanted)


def test_the_mixture_ends_at_the_truth_from_a_rough_start(four):
    features, _, prompt, group = four
    random = np.random.default_rng(3)
    rough = np.where(random.random(len(group)) < 0.4, random.integers(0, 4, len(group)), group)
    fitted = fit_shared_clusters(
        features, np.unique(prompt, return_inverse=True)[1], np.eye(4)[rough]
    )
    assert adjusted_rand_score(group, fitted.q.argmax(1)) > 0.9
    np.testing.assert_allclose(fitted.shares[0], np.array([3, 2, 1, 1]) / 7, atol=0.03)
    assert cluster_mutual_information(fitted.q, prompt) > by_cluster.LEAST_CLUSTER_INFORMATION
