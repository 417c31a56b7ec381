"""The gap over the strength as calibration estimates it and as a classifier does."""

from pathlib import Path

import numpy as np
import pytest

from invdiff.engine.classifiers.choose import Chosen
from invdiff.engine.evaluation.metrics import MetricProtocol
from invdiff.engine.evaluation.strength_curve import NOTHING, point, seen_at, strength_curve
from invdiff.engine.sampling import calibrate, group_shares
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.settings import config
from invdiff.engine.storage.files import read_json
from invdiff.engine.workflow import session_of
from invdiff.errors import ConfigError
from tests.tiny_world import copy_of, denoiser, resealed, stamps

CLASSES = ("warm", "cold")


class ByColour:
    """A classifier that compares red with blue; keeps what it was shown."""

    facts: dict[str, object] = {}  # noqa: RUF012

    def __init__(self):
        self.shown = []

    def features(self, pictures):
        self.shown.append(pictures)
        return pictures.reshape(len(pictures), -1, 3).mean(1)

    def classify(self, features):
        warm = (features[:, 0] > features[:, 2]).astype(float)
        return {"colour": np.stack([warm, 1 - warm], 1)}


@pytest.fixture
def asked(world, finished, tmp_path):
    run = world.open(copy_of(finished, tmp_path / "run"))
    section = run.config.evaluate.model_copy(update={"strength_curve": [0.0, 1.0]})
    run.config = run.config.model_copy(update={"evaluate": section, "processes": 1})
    claims = {"colour": {"classes": list(CLASSES)}}
    protocol = MetricProtocol("colour", (), claims, {}, resamples=100, neighbours=3, seed=0)
    return session_of(run), Chosen("by colour", ByColour(), "", "colour"), protocol


def test_both_see_the_pictures_of_the_calibration(asked):
    run, chosen, protocol = asked
    points, why = strength_curve(run, chosen, protocol)
    known = read_json(run.path / "adapter" / "calibration.json")["curve"]
    for found, before in zip(points, known, strict=True):
        assert found["strength"] == before["strength"]
        assert found["estimated"]["shares"] == pytest.approx(before["shares"])
        assert found["estimated"]["gap"] == pytest.approx(before["gap"])
        assert found["classified"]["images"] == before["images"]
    assert why == []
    times = stamps(run.path)
    again, _ = strength_curve(run, chosen, protocol)
    assert again == points
    assert stamps(run.path) == times, "what is there is not drawn again"


def test_the_classifier_sees_the_seeds_of_the_calibration(world, asked):
    run, chosen, protocol = asked
    (prompt, *_) = run.results.discovery.found
    counts = seen_at(run, [prompt], 0.0, chosen, protocol)
    images = run.config.calibrate.images_per_prompt
    seeds = [seed_of(run.config.seed, f"calibration {prompt}", k) for k in range(images)]
    section = run.config.sample
    scale = run.config.calibrate.guidance_scale
    sampler = Sampler(denoiser(world), None, 0.0, (0.0, 1.0), scale, section.steps)
    pictures = np.concatenate(chosen.classifier.shown)
    assert np.abs(pictures.astype(int) - sampler.pictures([prompt] * images, seeds)).max() <= 1
    assert sum(counts[prompt].values()) == images


def test_where_nothing_was_trained_there_is_no_curve(asked):
    run, chosen, protocol = asked
    path = run.path / "training.json"
    path.write_text(path.read_text().replace('"skipped": false', '"skipped": true'))
    resealed(run.path)
    assert strength_curve(run, chosen, protocol) == ([], [NOTHING])


def test_the_classifiers_gap_is_bias_over_the_prompts():
    claims = {"colour": {"classes": list(CLASSES)}}
    protocol = MetricProtocol("colour", (), claims, {}, resamples=200, neighbours=3, seed=0)
    estimated = {"strength": 0.5, "gap": 0.3, "low": 0.2, "high": 0.4, "images": 80, "shares": {}}
    counts = {
        "a": {"warm": 30, "cold": 10, "abstained": 0},
        "b": {"warm": 5, "cold": 25, "abstained": 10},
    }
    found = point(estimated, counts, protocol)
    seen = found["classified"]
    assert seen["value"] == pytest.approx((20 / 40 + 20 / 30) / 2)
    assert seen["low"] < seen["value"] < seen["high"]
    assert seen["images"] == 70
    assert (found["strength"], found["estimated"]["gap"]) == (0.5, 0.3)


def test_calibration_knows_no_classifier():
    for module in (calibrate, group_shares):
        assert "engine.classifiers" not in Path(module.__file__).read_text()


@pytest.mark.parametrize("classifier", ["auto", "none", "column:gender"])
def test_a_curve_without_a_classifier_is_refused(classifier):
    own = ["data.path=pictures", "evaluate.strength_curve=[0.0, 1.0]"]
    with pytest.raises(ConfigError, match=r"evaluate\.strength_curve: needs a classifier"):
        config.load(None, [*own, f"evaluate.classifier={classifier}"])
    assert config.load(None, own[1:]).evaluate.strength_curve == [0.0, 1.0]
