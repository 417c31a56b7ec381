"""The table that a run ends with."""

import json
import re

import pytest

from invdiff.app.cli.summary import outcome, outcome_record, summary


def arm(share, bias, **more):
    interval = {"low": bias - 0.05, "high": bias + 0.05}
    shares = {
        "male": {"share": share, "count": 90, "low": share - 0.04, "high": share + 0.04},
        "female": {"share": 1 - share, "count": 10, "low": 0.96 - share, "high": 1.04 - share},
    }
    bias_of = {"value": bias, **interval, "parity_value": 0.08}
    return {"images": 100, "shares": {"a person": shares}, "bias": bias_of, **more}


def test_the_table_shows_shares_and_bias_with_intervals(tmp_path):
    arms = {"base": {"2.5": arm(0.9, 0.8)}, "guided": {"2.5": arm(0.55, 0.1)}}
    (tmp_path / "metrics.json").write_text(json.dumps({"arms": arms}))
    lines = summary(tmp_path).splitlines()
    assert lines[1].split() == ["guidance", "scale", "2.5", "before", "after"]
    assert lines[2] == "a person: male      0.90 [0.86, 0.94]  0.55 [0.51, 0.59]"
    assert lines[3].startswith("Bias ")
    assert "0.80 [0.75, 0.85]  0.10 [0.05, 0.15]" in lines[3]
    assert "100 pictures before" in lines[4]
    assert "Bias 0.08 at this number" in lines[4]


def test_the_table_does_without_shares(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"arms": {"base": {"1.0": {}}}}))
    assert "no attribute classifier" in summary(tmp_path)


def test_an_absent_share_is_a_dash(tmp_path):
    after = arm(0.5, 0.1)
    after["shares"]["a person"]["male"]["share"] = None
    arms = {"base": {"1.0": arm(0.9, 0.8)}, "guided": {"1.0": after}}
    (tmp_path / "metrics.json").write_text(json.dumps({"arms": arms}))
    assert summary(tmp_path).splitlines()[2].endswith("  -")


@pytest.mark.parametrize(("name", "column"), [("base", 0), ("guided", 1)])
def test_an_arm_that_was_not_drawn_is_dashes(tmp_path, name, column):
    (tmp_path / "metrics.json").write_text(json.dumps({"arms": {name: {"1.0": arm(0.9, 0.8)}}}))
    lines = summary(tmp_path).splitlines()
    cells = [re.split(r"  +", line) for line in lines[2:4]]
    assert [row[2 - column] for row in cells] == ["-", "-"]
    assert [row[1 + column] for row in cells] == ["0.90 [0.86, 0.94]", "0.80 [0.75, 0.85]"]
    assert "Bias 0.08 at this number" in lines[4]


def test_without_a_classifier_groups_gap_and_strength_are_told(tmp_path):
    """The run's own figures need no labels."""
    groups = [{"share": 0.9, "low": 0.83, "high": 0.94}, {"share": 0.1, "low": 0.06, "high": 0.17}]
    found = {"found": True, "images": 100, "p_value": 0.0001, "groups": groups}
    even = {"found": False, "note": "nothing to balance", "groups": groups}
    prompts = {"a nurse\x1b": found, "a pilot": even}
    point = {"low": 0.0, "high": 1.0}
    curve = [{"strength": 0.0, "gap": 0.82, **point}, {"strength": 1.5, "gap": 0.1, **point}]
    for name, record in (
        ("discovery.json", {"estimator": "auto", "prompts": prompts}),
        ("calibration.json", {"guidance_scale": 2.5, "strength": 1.5, "curve": curve}),
        ("metrics.json", {"arms": {"base": {"1.0": {}}}}),
        ("training.json", {"steps": 1}),
    ):
        place = tmp_path / ("adapter" if name == "calibration.json" else "")
        place.mkdir(exist_ok=True)
        (place / name).write_text(json.dumps(record))
    lines = outcome(tmp_path).splitlines()
    assert lines[0] == "groups: found in 1 of 2 prompts"
    assert lines[1].startswith(r"  a nurse\u001b: under-represented group 10% [6%, 17%] of 100")
    assert lines[2] == "  a pilot: nothing to balance"
    assert lines[3].startswith("adapter strength 1.5: estimated gap 0.10, 0.82 before")
    assert lines[4] == "no attribute classifier: no shares"
    record = outcome_record(tmp_path)
    assert record["discovery"]["prompts"]["a nurse\x1b"]["found"]
    assert record["calibration"]["strength"] == 1.5
    assert record["calibration"]["curve"][1]["gap"] == 0.1
