"""The suite of attributes: inferred ones beside the labelled, the probe, and the three files."""

import csv

import numpy as np
import pytest

from invdiff.engine.run.records import Attributes, FoundAttribute
from invdiff.engine.run.results import Results
from invdiff.engine.storage.files import read_json, write_parquet
from invdiff.errors import ConfigError
from invdiff.studies.benchmarking import attributes_suite as suite
from invdiff.studies.benchmarking import jobs, method_suite
from invdiff.studies.benchmarking.attributes_table import NONE, write_attributes_table
from tests.studies.benchmarking.test_method_suite import in_the_tiny_world
from tests.tiny_world import COAT, HAT, stamps

PROMPT = np.array([HAT] * 40 + [COAT] * 40 + ["a tie"] * 10)
TRUTH = np.array([True] * 30 + [False] * 10 + [True] * 10 + [False] * 30 + [True] * 10)
MIXED = [HAT, COAT]


@pytest.fixture
def inferred(tmp_path):
    """A run that inferred two attributes: `right` is the opposite of the truth, but for one."""
    results = Results(tmp_path)
    entries = [("other", "clear", False), ("right", "unclear", True)]
    found = tuple(FoundAttribute(id=i, verdict=v, tied=t) for i, v, t in entries)
    results.write(Attributes(attributes=found))
    right = np.where(TRUTH, 0.1, 0.9)
    right[0] = 0.95
    other = np.tile([0.2, 0.8], 45)
    columns = {"sample_id": list(map(str, range(90))), "q_other": other, "q_right": right}
    write_parquet(tmp_path / "attributes.parquet", columns)
    return results


def numbers(lines):
    return {(line.get("prompt", ""), line["metric"]): line["value"] for line in lines}


def test_the_attribute_that_agrees_best_is_turned_the_right_way_round(inferred):
    lines = list(suite.inferred_lines(inferred, PROMPT, TRUTH, MIXED))
    assert {line["id"] for line in lines if "id" in line} == {"right"}
    found = numbers(lines)
    assert (found["", "clear"], found["", "tied"]) == (0, 1)
    assert found[COAT, "auc"] == 1
    assert found[HAT, "auc"] == pytest.approx(29 / 30)
    assert found[HAT, "balanced_accuracy"] == pytest.approx((29 / 30 + 1) / 2)
    assert found[HAT, "true_share"] == 0.75
    assert found[HAT, "inferred_share"] == pytest.approx((29 * 0.9 + 0.05 + 10 * 0.1) / 40)
    assert ("a tie", "auc") not in found, "it has one value alone"
    assert found["a tie", "true_share"] == 1


def test_where_nothing_was_inferred_all_is_chance(tmp_path):
    results = Results(tmp_path)
    results.write(Attributes())
    write_parquet(tmp_path / "attributes.parquet", {"sample_id": list(map(str, range(90)))})
    found = numbers(suite.inferred_lines(results, PROMPT, TRUTH, MIXED))
    assert {found[p, m] for p in MIXED for m in ("auc", "balanced_accuracy")} == {0.5}
    assert not {"clear", "tied", "inferred_share"} & {metric for _, metric in found}


def test_the_probe_is_measured_on_pictures_that_it_did_not_see():
    random = np.random.default_rng(0)
    noise = random.normal(size=(90, 60))  # as many as could be learnt by heart
    found = numbers(suite.probe_lines(noise, PROMPT, TRUTH, MIXED, 0))
    assert max(found[p, "probe_auc"] for p in MIXED) < 0.8
    noise[:, :20] += 4 * TRUTH[:, None]
    found = numbers(suite.probe_lines(noise, PROMPT, TRUTH, MIXED, 0))
    assert min(found[p, "probe_auc"] for p in MIXED) > 0.95


@pytest.mark.parametrize(
    ("labels", "told"),
    [(["a", "b"], ["b"]), (["a", "b", "c"], ["a", "b", "c"]), (["a"], ["a"])],
)
def test_of_two_values_one_is_told_and_of_more_each(labels, told):
    assert suite.told_values(np.array(labels * 3)) == told


def test_a_prompt_is_mixed_from_one_in_fifty_and_as_many_as_the_probe_has_parts():
    rows = np.zeros((4, 1000), bool)
    for row, count in zip(rows, (0, 19, 20, 980), strict=True):
        row[:count] = True
    assert [suite.is_mixed(row) for row in rows] == [False, False, True, True]
    assert [suite.is_mixed(np.arange(50) < few) for few in (4, 5)] == [False, True]


def line(seed, prompt, metric, value, **more):
    known = {"set": "faces", "row": "gender", "group": "male", "seed": seed}
    return known | {"prompt": prompt, "metric": metric, "value": value} | more


def test_the_table_has_means_least_shares_and_the_largest_difference(tmp_path):
    lines = []
    for seed, shift in ((0, 0.0), (1, 0.1)):
        lines += [line(seed, "", "clear", 1 - seed, id="a"), line(seed, "", "tied", 1, id="a")]
        for prompt, auc, share in ((HAT, 0.9, 0.8), (COAT, 0.7, 0.3)):
            of = {"auc": auc, "true_share": share, "inferred_share": share + shift}
            lines += [line(seed, prompt, metric, value) for metric, value in of.items()]
            lines += [line(seed, prompt, "probe_auc", 0.95)]
    facts = {"sets": ["faces"], "seeds": [0, 1], "left_out": {"faces": ["hair"]}}
    facts |= {"missing": [], "not_built": ["digits"], "options": []}
    text = write_attributes_table(tmp_path, lines, facts).read_text()
    heads, _, cells = ([c.strip() for c in row.split("|")[1:-1]] for row in text.splitlines()[:3])
    shown = dict(zip(heads, cells, strict=True))
    assert shown["attribute: value"] == "gender: male"
    assert shown["inferred"] == "a: clear 1 of 2, tied 2 of 2"
    assert (shown["AUC"], shown["least"], shown["probe's AUC"]) == ("0.800", "0.700", "0.950")
    assert shown["largest difference of shares"] == "0.05 (0.00..0.10)"
    assert shown["shares (true)"] == "0.85 0.35 (0.80 0.30)"
    assert "Left out of faces, having more values than there can be groups: hair." in text
    assert "`invdiff benchmark run faces --suite attributes --seeds 2 --out DIR`" in text
    assert read_json(tmp_path / "attributes.json")["inferred"][0]["id"] == "a"
    with (tmp_path / "attributes.csv").open(newline="") as handle:
        assert {"auc", "auc.least", "share_difference"} <= {
            r["metric"] for r in csv.DictReader(handle)
        }


def test_the_suite_goes_on_in_the_runs_of_the_method(world, tmp_path, monkeypatch):
    in_the_tiny_world(world, monkeypatch)
    monkeypatch.setattr(suite, "stored_attributes", lambda name: {"colour": ("warm", "cold")})
    table = suite.benchmark_attributes(["faces"], 1, tmp_path)
    assert f"| {NONE} " in table.read_text()
    job = suite.jobs_of_set("faces", 1, tmp_path)[0]
    assert job in method_suite.jobs_of("found", "faces", 1, tmp_path / "faces")
    before = stamps(job.folder)
    monkeypatch.setattr(jobs, "do_jobs", lambda *_: pytest.fail("nothing is missing"))
    suite.benchmark_attributes(["faces"], 1, tmp_path)
    assert stamps(job.folder) == before


def test_sets_and_settings_that_are_none_are_refused_before_the_work(tmp_path):
    with pytest.raises(ConfigError, match="no benchmark 'cats'"):
        suite.benchmark_attributes(["cats"], 1, tmp_path / "out")
    with pytest.raises(ConfigError, match="the suite has its own"):
        suite.benchmark_attributes(["faces"], 1, tmp_path / "out", ["data.path='x'"])
    assert not (tmp_path / "out").exists()
