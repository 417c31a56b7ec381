"""`invdiff.Run` as its user holds it: settings from anywhere, results as objects, a look at all."""

import doctest
import json
import re

import numpy as np
import pytest

import invdiff
from invdiff.app import api
from invdiff.engine.settings import config as configuration
from invdiff.engine.storage.files import write_json, write_parquet
from invdiff.errors import ArgumentError, ConfigError, RunError
from tests.tiny_world import copy_of, finished, resealed, table, world

__all__ = ["finished", "world"]


def test_the_example_in_the_docstring_is_true(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(api)
    assert found.attempted > 2
    assert found.failed == 0


def test_a_preset_is_taken_by_name_with_settings_over_it(tmp_path):
    run = invdiff.Run(tmp_path / "one", preset="sd15")
    assert run.config == configuration.preset("sd15")
    run = invdiff.Run(tmp_path / "two", {"train": {"steps": 7}}, preset="sd15", data="mine")
    overrides = ["train.steps=7", "data.path=mine"]
    assert run.config == configuration.preset("sd15", overrides)


def test_settings_may_be_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nsteps = 9\n")
    for number, given in enumerate((file, str(file))):
        assert invdiff.Run(tmp_path / str(number), given).config.train.steps == 9


def test_data_is_there_before_settings_that_need_it_are_checked(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[data]\nquarantine = "bad.csv"\n')
    run = None
    for number, given in enumerate(({"data": {"quarantine": "bad.csv"}}, file)):
        run = invdiff.Run(tmp_path / str(number), given, data=tmp_path)
        assert (run.config.data.path, run.config.data.quarantine) == (str(tmp_path), "bad.csv")
    again = invdiff.Run(run.path, data=tmp_path)
    assert again.config == run.config


def test_a_file_is_put_over_a_preset_and_data_over_both(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nsteps = 9\n[data]\npath = 'theirs'\n")
    run = invdiff.Run(tmp_path / "run", file, preset="sd15", data="mine")
    overrides = ["train.steps=9", "data.path=mine"]
    assert run.config == configuration.preset("sd15", overrides)
    settings = {"data": {"quarantine": "bad.csv"}}  # is for data of one's own, which `data` names
    assert invdiff.Run(tmp_path / "two", settings, data="mine").config.data.quarantine == "bad.csv"


def test_what_cannot_be_meant_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no preset 'sd16'; there are: .*sd15"):
        invdiff.Run(tmp_path / "run", preset="sd16")
    with pytest.raises(ConfigError, match="no such config file"):
        invdiff.Run(tmp_path / "run", tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"train.step: no such setting; did you mean train.steps"):
        invdiff.Run(tmp_path / "run", {"train": {"step": 7}}, preset="sd15")
    with pytest.raises(ArgumentError, match="preset: must be left out with a Config"):
        invdiff.Run(tmp_path / "run", invdiff.Config(), preset="sd15")
    assert not (tmp_path / "run").exists()


def test_results_are_asked_for_when_they_are_there(tmp_path):
    run = invdiff.Run(tmp_path / "run")
    with pytest.raises(RunError, match="groups needs discover: run `invdiff discover"):
        _ = run.groups
    with pytest.raises(RunError, match="metrics needs discover"):
        _ = run.metrics
    assert "nothing yet" in repr(run)
    assert "the defaults" in run._repr_html_()


def test_the_groups_are_those_of_the_files(finished):
    groups = invdiff.Run(finished).groups
    stored = table(finished / "groups.parquet")
    entries = json.loads((finished / "discovery.json").read_text())["prompts"]
    assert groups.sample_ids == tuple(stored["sample_id"])
    assert groups.captions == tuple(stored["caption"])
    np.testing.assert_array_equal(groups.memberships[:, 1], stored["q_1"])
    np.testing.assert_array_equal(groups.memberships[:, 0], stored["q_0"])
    np.testing.assert_array_equal(groups.weights, stored["weight"])
    assert len(groups) == len(stored["weight"])
    for name, entry in entries.items():
        ours, rare = groups.verdicts[name], entry["groups"][1]
        assert (ours.found, ours.pictures, ours.note) == (
            entry["found"],
            entry["images"],
            entry["note"],
        )
        assert (ours.share, ours.low, ours.high) == pytest.approx(
            (rare["share"], rare["low"], rare["high"])
        )
    assert set(groups.found) == {name for name, entry in entries.items() if entry["found"]}


def test_of_several_groups_the_share_is_that_of_all_but_the_first(finished, tmp_path):
    run = copy_of(finished, tmp_path / "run")
    groups = [
        {"share": share, "low": share - 0.1, "high": share + 0.2} for share in (0.6, 0.3, 0.1)
    ]
    entry = {
        "found": True,
        "groups": groups,
        "images": 10,
        "explained": None,
        "p_value": None,
        "note": "",
    }
    write_json(run / "discovery.json", {"estimator": "auto", "prompts": {"a hat": entry}})
    stored = {name: column.tolist() for name, column in table(run / "groups.parquet").items()}
    write_parquet(run / "groups.parquet", {**stored, "q_2": [0.0] * len(stored["q_1"])})
    found = invdiff.Run(resealed(run)).groups
    verdict = found.verdicts["a hat"]
    assert (verdict.share, verdict.low, verdict.high) == pytest.approx((0.4, 0.2, 0.5))
    assert str(verdict) == "under-represented group 40% [20%, 50%] of 10 pictures"
    assert found.memberships.shape == (len(stored["q_1"]), 3)


def measured(run):
    """A finished run with a Bias in its figures, as a classifier gives it."""
    figure = {"value": 0.75, "low": 0.7, "high": 0.8, "parity_value": 0.06}
    after = {"value": 0.08, "low": 0.0, "high": 0.14, "parity_value": 0.06}
    record = {
        "arms": {
            "base": {"2.5": {"images": 800, "bias": figure}},
            "guided": {"2.5": {"images": 800, "bias": after}, "1.0": {"images": 800}},
        },
        "paired": {"2.5": {"bias_reduction": {"value": 0.67, "low": 0.61, "high": 0.77}}},
    }
    write_json(run / "metrics.json", record)
    resealed(run)
    return record


def test_the_metrics_are_those_of_the_file(finished, tmp_path):
    run = copy_of(finished, tmp_path / "run")
    record = measured(run)
    metrics = invdiff.Run(run).metrics
    assert list(metrics.before) == list(metrics.after) == [1.0, 2.5]
    found = metrics.after[2.5]
    assert (found.value, found.low, found.high) == (0.08, 0.0, 0.14)
    assert metrics.reduction[2.5].low == 0.61
    assert metrics.before[1.0] is metrics.after[1.0] is metrics.reduction[1.0] is None
    assert metrics.record == record
    told = repr(metrics).splitlines()
    assert told[0] == "guidance scale 1: no Bias, no attribute classifier was used"
    assert told[1] == (
        "guidance scale 2.5: Bias 0.75 [0.70, 0.80] before, 0.08 [0.00, 0.14] after, of 800 "
        "pictures (a balanced sampler shows 0.06)"
    )


def test_a_look_at_a_run_tells_what_is_worth_knowing(finished, tmp_path):
    copied = copy_of(finished, tmp_path / "run <1>")
    measured(copied)
    run = invdiff.Run(copied)
    text, page = repr(run), run._repr_html_()
    for told in ("discover, train, sample, evaluate, report", "0.75 [0.70, 0.80]", "report.html"):
        assert told in text
        assert told in page
    assert "train.steps = 4" in text or "more" in text
    assert "seed" not in text  # as it is by default
    assert "run &lt;1&gt;" in page
    assert "run <1>" not in page
    assert len(re.findall("<tr>", page)) == len(re.findall("</tr>", page)) == 6
    run.folder.clear("sample")
    assert "next:       sample" in repr(run)
    assert "Bias" not in repr(run)


def test_data_alone_gets_the_settings_of_the_embedded_model_and_a_line(tmp_path, caplog):
    invdiff.Run(tmp_path / "mine", data="photos")
    (told,) = caplog.messages
    assert 'embedded model faces and its settings; preset="sd15"' in told
    caplog.clear()
    invdiff.Run(tmp_path / "mine", data="photos")
    invdiff.Run(tmp_path / "faces", data="faces")
    invdiff.Run(tmp_path / "sd", data="photos", preset="sd15")
    assert not caplog.messages
