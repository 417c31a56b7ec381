"""Classifiers trained with and without added pictures: whom they serve worst, in which words."""

import csv
from functools import partial

import numpy as np
import pytest
from PIL import Image

from invdiff.core.uncertainty.intervals import wilson
from invdiff.engine.fitting.simple_loop import Recipe
from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import ConfigError
from invdiff.studies.benchmarking import downstream

HAT, COAT = "a hat", "a coat"


def result(arm, seed, values, synthetic=0):
    groups = [
        {"prompt": prompt, "group": group, "count": round(200 * value), "images": 200}
        | {"value": value, "low": value - 0.02, "high": value + 0.01}
        for (prompt, group), value in values.items()
    ]
    facts = {"arm": arm, "seed": seed, "attribute": "colour", "real": 800, "synthetic": synthetic}
    return facts | {"groups": groups}


@pytest.fixture
def found():
    biased = {(HAT, "warm"): 0.98, (HAT, "cold"): 0.80, (COAT, "warm"): 0.90, (COAT, "cold"): 0.96}
    evened = {key: 0.95 for key in biased} | {(COAT, "warm"): 0.92}
    return [
        result(downstream.BIASED, 0, biased),
        result(downstream.GUIDED, 0, evened, 400),
        result(downstream.BIASED, 1, biased | {(HAT, "cold"): 0.70}),
        result(downstream.GUIDED, 1, evened, 380),
    ]


def test_each_group_has_its_count_and_interval():
    truth, group = [HAT] * 3 + [COAT] * 2, ["warm", "warm", "cold", "warm", "warm"]
    found = downstream.by_group([HAT, COAT, HAT, COAT, COAT], truth, group)
    shown = {(one["prompt"], one["group"]): (one["count"], one["images"]) for one in found}
    assert shown == {(HAT, "warm"): (1, 2), (HAT, "cold"): (1, 1), (COAT, "warm"): (2, 2)}
    low, high = wilson(np.array([1]), np.array([2]))
    hat = next(one for one in found if one["group"] == "warm" and one["prompt"] == HAT)
    assert (hat["value"], hat["low"], hat["high"]) == (0.5, low[0], high[0])


def test_the_worst_group_has_an_interval_for_the_worst_of_many(found):
    (worst,) = downstream.worst_groups(downstream.accuracies("faces", found[:1])).to_dict("records")
    assert (worst["prompt"], worst["group"], worst["value"]) == (HAT, "cold", 0.8)
    low, high = wilson(np.array([160]), np.array([200]), 1 - 0.05 / 4)
    assert (worst["low"], worst["high"]) == (low[0], high[0])
    assert high - low > np.subtract(*wilson(np.array([160]), np.array([200]))[::-1])


def test_the_table_is_the_mean_of_the_seeds_with_the_worst_named(found, tmp_path):
    text = downstream.write_accuracies(tmp_path, "faces", found).read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:4]]
    assert lines[0][:3] == [downstream.BIASED, "800", "0"]
    assert lines[0][3].startswith("0.750 [")
    assert lines[0][4] == "0.700 (a hat, cold)"
    assert lines[0][5] == "0.897"
    assert lines[1][:3] == [downstream.GUIDED, "800", "380..400"]
    assert lines[1][4] == "0.920 (a coat, warm)"
    assert "prompt and colour (200 pictures each)" in text
    assert "`invdiff benchmark run faces --suite augment --seeds 2 --out DIR`" in text
    worst = [
        line
        for line in read_json(tmp_path / "summary.json")["rows"]
        if line["metric"] == "worst_group"
    ]
    assert worst[0]["value"] == pytest.approx(0.75)
    with (tmp_path / "table.csv").open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["metric"] == "accuracy"]
    assert len(rows) == 4 * 4
    assert {row["row"] for row in rows} == {downstream.BIASED, downstream.GUIDED}
    assert {row["count"] for row in rows} == {"200"}


def test_only_what_is_missing_is_trained(found, tmp_path, monkeypatch):
    asked = []

    def beside_each_other(work, left, *_):
        for one in left:
            asked.append((one.arm, one.seed))
            write_json(one.result, found[0] | {"arm": one.arm, "seed": one.seed})

    drawn = []
    monkeypatch.setattr(downstream, "beside_each_other", beside_each_other)
    monkeypatch.setattr(downstream, "draw_added", lambda name, seed, out: drawn.append(seed))
    done = downstream.ClassifierTraining(str(tmp_path), "faces", downstream.GUIDED, 0)
    write_json(done.result, found[1])
    table = downstream.benchmark_downstream("faces", 2, tmp_path)
    assert table == tmp_path / "augment" / "table.md"
    assert set(asked) == {(a, s) for a in downstream.ARMS for s in (0, 1)} - {(done.arm, done.seed)}
    assert drawn == [0, 1]
    asked.clear()
    downstream.benchmark_downstream("faces", 2, tmp_path)
    assert (asked, drawn) == ([], [0, 1])


def test_unknown_sets_are_refused_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match="no benchmark 'cats'"):
        downstream.benchmark_downstream("cats", 1, tmp_path)


def test_an_arm_learns_from_what_its_list_adds(tmp_path, monkeypatch):
    """One step on the embedded faces: which pictures there are, and who tests."""
    seen = []
    monkeypatch.setattr(downstream, "Recipe", partial(Recipe, classifier_steps=1))
    monkeypatch.setattr(
        downstream,
        "fit_prompts",
        lambda images, prompts, *rest: seen.append((images, prompts)) or rest,
    )
    monkeypatch.setattr(downstream, "estimated", lambda model, images, classes: ["-"] * len(images))
    path = tmp_path / "white.png"
    Image.new("RGB", (32, 32), (255, 255, 255)).save(path)
    added = {downstream.GUIDED: [[str(path), "a person"]] * 3, downstream.BASE: []}
    write_json(downstream.list_path(tmp_path, 0), added)
    for arm in (downstream.BIASED, downstream.GUIDED):
        found = downstream.train_and_test(
            downstream.ClassifierTraining(str(tmp_path), "faces", arm, 0)
        )
    (biased, few), (evened, more) = seen
    assert (len(evened), len(more)) == (len(biased) + 3, len(few) + 3)
    assert bool((evened[-3:] == 1).all())
    assert more[-3:] == ["a person"] * 3
    assert (found["real"], found["synthetic"], found["attribute"]) == (len(biased), 3, "gender")
    assert {one["value"] for one in found["groups"]} == {0.0}
    assert len(found["groups"]) == 8
