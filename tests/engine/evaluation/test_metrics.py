"""The figures of one arm, on classes that are written down here."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from invdiff.engine.classifiers.classify import ClassifiedPictures
from invdiff.engine.evaluation import label_agreement, metrics
from invdiff.errors import InvDiffError


def seen(prompts, classes, seeds=None):
    features = np.random.default_rng(0).normal(size=(len(prompts), 3))
    seeds = np.arange(len(prompts)) if seeds is None else np.asarray(seeds)
    estimated = {"kind": np.asarray(classes), "prompt": np.asarray(prompts)}
    return ClassifiedPictures(np.asarray(prompts), seeds, 1.0, features, estimated)


def protocol(confusion, prompts=("p",), known=None):
    claims = {
        "kind": {"classes": ["a", "b"], "confusion": confusion},
        "prompt": {"classes": known or list(prompts)},
    }
    reference = np.random.default_rng(1).normal(size=(30, 3))
    return metrics.MetricProtocol("kind", prompts, claims, {"real": reference}, 200, 3, 0)


def test_what_cannot_be_measured_becomes_a_sentence():
    found, notes = metrics.measure_samples(
        seen(["p"] * 3, ["a", "b", "b"]), protocol([[1, 1], [1, 1]])
    )
    assert "precision" not in found
    assert found["bias"]["error_corrected"] is None
    assert found["frechet"]["real"]["images"] == 3
    assert len(notes) == 2
    assert "error-corrected shares" in notes[0]
    assert "precision, recall and coverage (the number of images is 3, and 4" in notes[1]


def test_prompts_the_classifier_does_not_know_have_no_fidelity():
    found, notes = metrics.measure_samples(
        seen(["p"] * 5, list("aabbb")), protocol([[9, 1], [1, 9]], known=["q"])
    )
    assert found["fidelity"] is None
    assert notes == ["Fidelity was not measured: the classifier knows none of the prompts."]


def test_an_absent_prompt_is_nan_with_no_images():
    found, _ = metrics.measure_samples(
        seen(["p"] * 5, list("aabbb")), protocol([[9, 1], [1, 9]], ("p", "q"))
    )
    assert np.isnan(found["shares"]["q"]["a"]["share"])
    assert found["shares"]["q"]["a"]["count"] == 0
    assert found["bias"]["value"] == pytest.approx(0.2)
    assert found["bias"]["prompts"] == 1


def test_pairs_are_matched_by_seed_not_by_position():
    before = seen(["p"] * 4, list("aaab"), [1, 2, 3, 4])
    after = seen(["p"] * 4, list("baab"), [4, 9, 3, 1])  # seed 9 has no partner
    found = metrics.reduction_of_bias(before, after, protocol([[9, 1], [1, 9]]))
    assert found["pairs"] == 3
    # seeds 4, 3, 1: b a a before, b a b after
    assert found["value"] == pytest.approx(0)
    same = seen(["p"] * 4, list("aaab"), [1, 2, 3, 4])
    assert metrics.reduction_of_bias(before, same, protocol([[9, 1], [1, 9]]))["value"] == 0
    stranger = seen(["p"] * 2, list("ab"), [7, 8])
    assert np.isnan(
        metrics.reduction_of_bias(before, stranger, protocol([[9, 1], [1, 9]]))["value"]
    )


def test_agreement_is_about_the_rarest_label():
    labels, against = np.array(list("aaabb")), np.array([0.1, 0.2, 0.6, 0.4, 0.9])
    accuracy, area = label_agreement.label_agreement(labels, against)
    assert area == roc_auc_score([0, 0, 0, 1, 1], against)
    assert accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert label_agreement.rarest(np.array(list("aab"))) == ["b"]
    assert label_agreement.rarest(np.array(list("aaabbcd"))) == ["c", "d"]
    for even in ("aabb", "a", ""):
        assert label_agreement.rarest(np.array(list(even))) == []
    assert np.isnan(
        label_agreement.label_agreement(np.array(list("ab")), np.array([0.0, 1.0]))
    ).all()


def test_two_labels_that_are_equally_rare_are_looked_for_together():
    """Faces of four groups, 3 : 2 : 1 : 1."""
    labels = np.array(list("aaabbcd"))
    against = np.array([0.1, 0.1, 0.2, 0.3, 0.3, 0.9, 0.4])
    assert label_agreement.label_agreement(labels, against) == pytest.approx((0.75, 1.0))


def test_groups_and_labels_of_any_number_are_compared():
    labels, four = np.array(list("aaabbcd")), np.array([0, 0, 0, 1, 1, 2, 3])
    assert label_agreement.matched_accuracy(labels, four) == 1
    assert label_agreement.adjusted_rand(labels, 3 - four) == 1
    two = (four > 0) * 1
    assert label_agreement.matched_accuracy(labels, two) == 0.5  # a, and one of b, c and d
    assert label_agreement.matched_accuracy(labels, np.zeros(7, int)) == 0.25
    assert 0 < label_agreement.adjusted_rand(labels, two) < 1
    wrong = np.array([1, 1, 0, 0, 1, 1, 1])  # a group cannot stand for two labels
    assert label_agreement.matched_accuracy(labels, wrong) == pytest.approx((1 / 2 + 1) / 4)
    for alone in (labels[:3], labels[:0]):
        assert np.isnan(label_agreement.matched_accuracy(alone, four[: len(alone)]))
        assert np.isnan(label_agreement.adjusted_rand(alone, four[: len(alone)]))


def test_an_unknown_class_is_a_fault_of_ours():
    with pytest.raises(InvDiffError, match="not among"):
        metrics.measure_samples(seen(["p"], ["c"]), protocol([[9, 1], [1, 9]]))
