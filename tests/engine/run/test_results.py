"""The files of a run as objects: what is written comes back, old keys are read, damage is told."""

import logging

import numpy as np
import pytest

from invdiff.engine.run.records import Calibration, Discovery, Metrics, Training
from invdiff.engine.run.results import Groups, Results
from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import RunError

FOUND = {"found": True, "monitored": True, "scored": 40, "representatives": ["a red hat", "a hat"]}
EVEN = {"found": False, "monitored": True, "scored": 40, "representatives": ["a coat"]}
FEW = {"found": False, "scored": 0, "representatives": ["a boat"]}


@pytest.mark.parametrize("membership", [[0.1, 0.9, 0.4], [[0.7, 0.2, 0.1], [0, 1, 0], [0, 0, 1]]])
def test_groups_come_back(tmp_path, membership):
    names = ("a", "b", "c"), ("hat", "hat", "coat"), ("red hat", "hat", "coat")
    groups = Groups(*names, np.array(membership, float), np.array([0.5, 1.5, 1.0]))
    Results(tmp_path).write_groups(groups)
    again = Results(tmp_path).groups
    assert (again.sample_id, again.prompt, again.caption) == names
    assert np.array_equal(again.membership, groups.membership)
    assert np.array_equal(again.weight, groups.weight)
    assert again.group.tolist() == ([0, 1, 0] if len(groups.membership.shape) == 1 else [0, 1, 2])
    assert list(again.columns()) == [
        "sample_id", "prompt", "caption", "group",
        *(f"q_{k}" for k in range(max(2, np.ndim(membership[0]) and 3))), "weight",
    ]  # fmt: skip


def test_groups_without_paths_are_those_of_before(tmp_path):
    groups = Groups(("a",), ("hat",), ("hat",), np.array([0.5]), np.array([1.0]), ("x/1.png",))
    assert list(groups.columns())[-1] == "path"
    Results(tmp_path).write_groups(groups)
    assert Results(tmp_path).groups.path == ("x/1.png",)
    table = groups.columns()
    del table["path"]
    assert Groups.of_columns(table).path == ()


def test_a_record_is_written_as_it_was_given(tmp_path):
    results = Results(tmp_path)
    given = {"estimator": "auto", "prompts": {"hat": FOUND}, "of_a_later_version": 3}
    results.write(Discovery.model_validate(given))
    assert read_json(tmp_path / "discovery.json") == given
    results.write(Calibration(guidance_scale=2.5, strength=1.25))
    stored = read_json(tmp_path / "adapter" / "calibration.json")
    assert stored == {"guidance_scale": 2.5, "strength": 1.25}


def test_a_calibration_says_which_strength_and_why():
    def point(strength, gap, shown, vetoed=False):
        own = {name: {"shown": shown, "images": 50} for name in ("hat", "coat")}
        return {"strength": strength, "gap": gap, "own_prompt": own, "vetoed": vetoed}

    curve = [point(0.0, 0.98, 49), point(1.0, 0.12, 48), point(1.5, 0.04, 20, True)]
    record = {"guidance_scale": 2.5, "tolerance": 0.2, "curve": curve}
    line = str(Calibration.model_validate(record | {"strength": 1.0}))
    assert "adapter strength 1: estimated gap 0.12, 0.98 before" in line
    assert "96 % of its pictures show their prompt, 98 % before" in line
    assert "not 1.5" in line
    assert "tolerance" not in line
    strict = record | {"strength": 1.0, "tolerance": 0.1}
    assert "more than the tolerance of 0.1" in str(Calibration.model_validate(strict))
    old = {"guidance_scale": 2.5, "strength": 0.75}
    assert str(Calibration.model_validate(old)) == "adapter strength 0.75, not calibrated"


def test_what_is_written_is_what_is_read_next(tmp_path):
    results = Results(tmp_path)
    results.write(Training(steps=3))
    assert results.training.steps == 3
    results.write(Training(steps=4))
    assert results.training.steps == 4


def test_the_prompts_of_a_discovery(tmp_path):
    record = {"estimator": "auto", "prompts": {"hat": FOUND, "coat": EVEN, "boat": FEW}}
    write_json(tmp_path / "discovery.json", record)
    found = Results(tmp_path).discovery
    assert (found.found, found.monitored) == (["hat"], ["coat", "hat"])
    assert found.captions_drawn == {"hat": ("a red hat", "a hat"), "coat": ("a coat",)}


def test_keys_of_earlier_versions_are_read_with_a_line(tmp_path, caplog):
    old = {"found": True, "watched": True}
    ranking = [{"name": "one", "worth": 0.5}]
    record = {"estimator": "auto", "prompts": {"hat": old, "coat": old}, "ranking": ranking}
    write_json(tmp_path / "discovery.json", record)
    write_json(tmp_path / "training.json", {"looks": [{"step": 3}]})
    with caplog.at_level(logging.WARNING):
        found, trained = Results(tmp_path).discovery, Results(tmp_path).training
    assert found.monitored == ["coat", "hat"]
    assert found.ranking[0].objective == 0.5
    assert trained.mid_training_checks == ({"step": 3},)
    told = [line.partition(": ")[2] for line in caplog.messages]
    assert told == [
        "read 'watched' as 'monitored', its name today",
        "read 'worth' as 'objective', its name today",
        "read 'looks' as 'mid_training_checks', its name today",
    ]


def test_a_missing_key_is_damage_and_no_false(tmp_path):
    write_json(tmp_path / "discovery.json", {"estimator": "auto", "prompts": {"hat": {}}})
    with pytest.raises(RunError, match=r"discovery\.json is damaged \(prompts\.hat\.found: Field"):
        _ = Results(tmp_path).discovery
    with pytest.raises(RunError, match=r"training\.json is missing: redo the stage"):
        _ = Results(tmp_path).training


def test_a_figure_is_found_by_its_scale_however_it_is_written():
    bias = {"value": 0.5, "low": 0.4, "high": 0.6}
    known = Metrics(arms={"guided": {"2.50": {"bias": bias, "images": 8}}})
    assert known.figure("guided", 2.5, "bias") == known.figure("guided", "2.5", "bias") == bias
    assert known.figure("guided", 1.0, "bias") is None
    assert known.figure("base", 2.5, "bias") is None
    assert "guided Bias 0.50 [0.40, 0.60] at scale 2.50" in repr(known)
