"""Which classifier is meant, how it is trained from labelled pictures, and what it claims."""

import csv

import numpy as np
import pytest

from invdiff.core.measurement import parity
from invdiff.core.uncertainty import classifier_error
from invdiff.data.gallery import open_labelled
from invdiff.data.sources import open_samples
from invdiff.engine.classifiers import error_table
from invdiff.engine.classifiers import learn as learning
from invdiff.engine.classifiers.choose import choose, from_file
from invdiff.engine.classifiers.learn import learn, split_by_label
from invdiff.engine.evaluation import evaluate as evaluation
from invdiff.engine.settings import config
from invdiff.engine.storage.files import read_json, read_parquet
from invdiff.engine.workflow import do_stage
from invdiff.errors import ConfigError, DataError, ModelError
from tests.engine.evaluation.test_evaluate import HAT, PLAIN, small_run, write_groups
from tests.engine.labelled_faces import export
from tests.model import tiny_vision

CLIP_CLASSES = 'evaluate.classes=["female = a photo of a woman", "male = a photo of a man"]'


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return export(tmp_path_factory.mktemp("labelled") / "faces", 300)


@pytest.fixture(scope="module")
def trained(labelled, tmp_path_factory):
    out = tmp_path_factory.mktemp("classifier") / "gender.safetensors"
    return out, learn(labelled, "gender", out, steps=100)


def test_the_header_holds_errors_on_pictures_never_seen(trained, labelled):
    out, facts = trained
    chosen = from_file(out, "mine")
    assert chosen.classifier.facts == facts
    data = open_labelled(labelled, "gender", 32)
    known, validated, held_out = split_by_label(data.labels, 0, "gender")
    assert sorted([*known, *validated, *held_out]) == list(range(len(data.labels)))
    values = chosen.classifier.classify(chosen.classifier.features(data.pictures[held_out]))
    estimated = error_table.decide(values["gender"], ("female", "male"))
    truth = np.asarray(data.labels)[held_out]
    claim = facts["attributes"]["gender"]
    assert claim["accuracy"] == (estimated == truth).mean() > 0.8
    assert claim["confusion"][0][1] == ((estimated == "male") & (truth == "female")).sum()
    assert (claim["held_out"], facts["trained_on"]) == (len(held_out), len(known))
    assert not list(out.parent.glob(".*"))  # checkpoints are gone


def test_the_checkpoint_with_the_best_validation_f1_is_kept(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "CHECK_EVERY", 5)
    scores = iter([0.2, 0.1, 0.9, 0.2, 0.5, 0.9, *[0.1, 0.9] * 50])
    states = []

    def f1(best, model):
        if model is best.model:
            states.append(model.trunk[0][0].weight.detach().clone())
        return next(scores)

    monkeypatch.setattr(learning._Best, "f1", f1)
    learn(labelled, "gender", tmp_path / "c.safetensors", steps=20)
    kept = from_file(tmp_path / "c.safetensors", "c").classifier.trunk[0][0].weight
    assert [(kept == state.half().float()).all().item() for state in states[:4]] == [
        False,
        True,
        False,
        False,
    ]


def test_an_interrupted_training_goes_on_to_the_same_file(labelled, tmp_path, monkeypatch):
    whole, parts = tmp_path / "a" / "c.safetensors", tmp_path / "b" / "c.safetensors"
    monkeypatch.setattr(learning, "CHECK_EVERY", 2)
    learn(labelled, "gender", whole, steps=12)
    steps, spoil = [], learning.small_classifier.spoil

    def interrupted(pictures, noise):
        if len(steps) == 10:
            raise KeyboardInterrupt
        steps.append(1)
        return spoil(pictures, noise)

    with monkeypatch.context() as patch:
        patch.setattr(learning.small_classifier, "spoil", interrupted)
        with pytest.raises(KeyboardInterrupt):
            learn(labelled, "gender", parts, steps=12)
    assert not parts.exists()
    learn(labelled, "gender", parts, steps=12)
    one, other = (from_file(path, "c").classifier for path in (whole, parts))
    assert one.facts == other.facts
    for name, value in one.state_dict().items():
        assert (value == other.state_dict()[name]).all()


def test_too_few_of_a_label_are_named():
    with pytest.raises(DataError, match="only 9 pictures are 'b'"):
        split_by_label(["a"] * 30 + ["b"] * 9, 0, "kind")
    parts = split_by_label(["a"] * 30 + ["b"] * 10, 0, "kind")
    assert [sum(row >= 30 for row in part) for part in parts] == [6, 2, 2]


def test_a_backbone_is_trained_on_and_named(labelled, tmp_path):
    folder = tiny_vision.vit(tmp_path / "vit")
    facts = learn(labelled, "gender", tmp_path / "c.safetensors", backbone=folder)
    chosen = from_file(tmp_path / "c.safetensors", "c")
    assert chosen.classifier.side == tiny_vision.SIDE
    assert facts["attributes"]["gender"]["accuracy"] > 0.6  # random features, but not chance
    assert chosen.classifier.facts["backbone"] == folder
    data = open_labelled(labelled, "gender", tiny_vision.SIDE)
    rows = split_by_label(data.labels, 0, "gender")[2]
    values = chosen.classifier.classify(chosen.classifier.features(data.pictures[rows]))
    right = (
        error_table.decide(values["gender"], ("female", "male")) == np.asarray(data.labels)[rows]
    )
    assert right.mean() == facts["attributes"]["gender"]["accuracy"]


def test_a_picture_that_is_not_clear_enough_is_in_no_class():
    values = np.array([[0.9, 0.1], [0.55, 0.45], [0.3, 0.7]])
    assert error_table.decide(values, ("a", "b")).tolist() == ["a", "a", "b"]
    unclear = error_table.decide(values, ("a", "b"), 0.6)
    assert unclear.tolist() == ["a", error_table.ABSTAINED, "b"]
    claim = error_table.claims(["a", "b", "a"], unclear.tolist(), ["a", "b"], abstaining=True)
    assert claim["confusion"] == [[1, 1, 0], [0, 0, 1]]
    assert claim["accuracy"] == 0.5


def test_headers_claim_errors_at_each_threshold():
    values = np.array([[0.9, 0.1], [0.55, 0.45], [0.3, 0.7]])
    claim = error_table.at_every_threshold(["a", "b", "b"], values, ["a", "b"])
    assert error_table.stored(claim, 0)["confusion"] == [[1, 0], [1, 1]]
    assert "abstaining" not in error_table.stored(claim, 0)
    assert error_table.stored(claim, 0.6)["confusion"] == [[1, 0, 0], [0, 1, 1]]
    assert error_table.stored(claim, 0.61) == {"classes": ["a", "b"]}


def test_a_poor_or_unmeasured_classifier_is_warned_about():
    assert error_table.warning("c", "kind", {"accuracy": 0.95, "held_out": 10}) is None
    assert "84.0% of 200" in error_table.warning("c", "kind", {"accuracy": 0.84, "held_out": 200})
    assert "not measured" in error_table.warning("c", "kind", {"classes": ["a"]})


def metrics_of(run):
    data = open_samples("faces", 32)
    write_groups(run, data, np.zeros(len(data)))
    do_stage(run, "evaluate")
    return read_json(run.path / "metrics.json")


@pytest.fixture(autouse=True)
def _small_references(monkeypatch):
    monkeypatch.setattr(evaluation, "REFERENCE", 200)


def test_a_run_takes_a_classifier_that_was_trained_here(trained, tmp_path):
    out, facts = trained
    run = small_run(tmp_path / "run", [f"evaluate.classifier={out}"])
    found = metrics_of(run)
    bias = found["arms"]["base"]["1.0"]["bias"]
    assert bias["value"] == pytest.approx(0.75, abs=0.2)
    assert found["arms"]["guided"]["1.0"]["bias"]["value"] < 0.3
    confusion = np.asarray(facts["attributes"]["gender"]["confusion"])
    shares = found["arms"]["base"]["1.0"]["shares"]
    raw = np.array([[shares[p][k]["share"] for k in ("female", "male")] for p in (HAT, PLAIN)])
    corrected = classifier_error.corrected_shares(raw, confusion)
    assert bias["error_corrected"] == pytest.approx(float(parity.bias(corrected)))
    assert found["classifier"]["name"] == "gender"
    assert found["protocol"]["attribute"] == "gender"
    assert any("Fidelity was not measured" in note for note in found["not_measured"])


def test_a_run_takes_clip_and_measures_its_errors(tmp_path):
    folder = tiny_vision.clip(tmp_path / "clip")
    run = small_run(tmp_path / "run", [f"evaluate.classifier=clip:{folder}", CLIP_CLASSES])
    found = metrics_of(run)
    claim = found["classifier"]["attributes"]["gender"]
    assert np.sum(claim["confusion"]) == claim["held_out"] == 200
    assert claim["accuracy"] < error_table.LEAST_ACCURACY  # random weights
    assert any("held-out pictures, less than 90%" in one for one in found["warnings"])
    assert found["protocol"]["extractor"] == "image embeddings of clip"


def test_abstaining_is_counted_and_corrected_for(tmp_path):
    plain = metrics_of(small_run(tmp_path / "plain"))
    run = small_run(tmp_path / "run", ["evaluate.abstain_below=0.999"])
    found = metrics_of(run)
    arm, before = (one["arms"]["base"]["1.0"] for one in (found, plain))
    unclear = arm["abstained"]
    assert 0 < unclear["count"] == sum(unclear["prompts"].values())
    assert arm["bias"]["images"] + unclear["count"] == before["bias"]["images"] == 40
    assert np.shape(found["classifier"]["attributes"]["gender"]["confusion"]) == (2, 3)
    assert arm["bias"]["error_corrected"] is not None
    assert "abstained" not in before


def test_labels_that_somebody_wrote_are_counted(tmp_path):
    run = small_run(tmp_path / "run", ["evaluate.classifier=column:style"], per_prompt=8)
    paths = read_parquet(run.path / "samples.parquet")["path"]
    with (run.path / "samples" / "metadata.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file_name", "style"])
        for k, path in enumerate(paths):
            label = "" if k == 0 else "light" if k % 4 else "dark"
            table.writerow([path.removeprefix("samples/"), label])
    found = metrics_of(run)
    arm = found["arms"]["base"]["1.0"]
    assert arm["shares"][HAT]["light"]["count"] == 6
    assert arm["abstained"]["prompts"] == {HAT: 1, PLAIN: 0}
    assert arm["bias"]["error_corrected"] is None
    assert arm["frechet"] == {}
    assert found["paired"]["1.0"]["bias_reduction"]["pairs"] == 15
    assert found["protocol"]["attribute"] == "style"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["evaluate.classifier=clip:x"], "evaluate.classes: clip needs texts"),
        (["evaluate.classifier=clap:x"], "evaluate.classifier: must be"),
        (['evaluate.classes=["a = b"]'], "only clip, siglip and model read them"),
        (["evaluate.classifier=model:x", 'evaluate.classes=["cat"]'], "evaluate.classes: must be"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ConfigError, match=said):
        config.load(None, settings)


def test_an_attribute_the_file_does_not_know(trained):
    asked = [f"evaluate.classifier={trained[0]}", "evaluate.attribute=age"]
    with pytest.raises(ModelError, match=r"does not estimate 'age'.*one of gender"):
        choose(config.load(None, asked))
