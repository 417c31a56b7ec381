"""The tables of the method's suite: which means, which ends, in which words."""

import csv

import numpy as np
import pytest

from invdiff.core.uncertainty.intervals import wilson
from invdiff.engine.storage.files import read_json
from invdiff.studies.benchmarking import markdown
from invdiff.studies.benchmarking.method import found, seed_agreement, summaries, writing
from invdiff.studies.benchmarking.method.found import CHANCE, Found
from invdiff.studies.benchmarking.method.oracle import oracle_lines
from invdiff.studies.benchmarking.method.summaries import Result
from invdiff.studies.benchmarking.suites import ORACLE, OURS
from tests.engine.made_up import arm

HAT, COAT, BAND = "a hat", "a coat", "a band"
WHO = np.array([True, False, False, True])
NOBODY = np.zeros(4, bool)


def skewed(auc, is_found=True):
    worth = {"auc": auc, "balanced_accuracy": auc - 0.1, "adjusted_rand": auc - 0.2}
    return {"skewed": True, "found": is_found, **(worth if is_found else CHANCE)}


def even(is_found):
    return {"skewed": False, "found": is_found, **dict.fromkeys(CHANCE)}


def searched(name, seed, hat, coat, band, groups=WHO):
    return Found(name, seed, {HAT: hat, COAT: coat, BAND: band}, {HAT: groups, COAT: WHO})


@pytest.fixture
def result():
    """Two seeds of the default and one of the oracle; one run of the method and of the oracle."""
    scales = ("1.0", "2.5", "5.0")
    base = {scale: arm(0.6, 0.9, 0.0, distance=90.0) for scale in scales}
    guided = {scale: arm(0.1, 0.5, distance=20.0 + float(scale)) for scale in scales}
    common = {
        "seed": 0, "arm": "guided", "discovery": {}, "prompt_suffix": None,
        "protocol": {"images_per_prompt": 400},
    }  # fmt: skip
    runs = (
        {"row": OURS, "arms": {"base": base, "guided": guided}} | common,
        {"row": ORACLE, "arms": {"guided": guided}} | common,
    )
    default = (
        searched("auto", 0, skewed(1.0), skewed(0.8), even(False)),
        searched("auto", 1, skewed(0.9), skewed(0.8, is_found=False), even(True), ~WHO),
    )
    oracle = searched("labels", 1, skewed(1.0), skewed(1.0), even(False))
    return Result("scenes", 2, (*default, oracle), runs)


def shown(text):
    """The tables of a page: lists of lines, each a list of cells, without the ruler."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    return [
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in (block[0], *block[2:])]
        for block in blocks
    ]


# Seeds that agree


def test_groups_are_compared_image_by_image_whatever_the_order_of_the_rows():
    table = {
        "sample_id": ["b", "d", "a", "c", "e"],
        "prompt": [HAT, COAT, HAT, HAT, COAT],
        "q_1": [0.9, 0.8, 0.1, 0.51, 0.5],
    }
    groups = seed_agreement.groups_of(table, {HAT: True, COAT: False})
    assert groups[HAT].tolist() == [False, True, True]
    assert groups[COAT].tolist() == [False, False], "nothing was found: nobody is against"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (WHO, WHO, 1.0),
        (WHO, ~WHO, 1.0),
        (WHO, np.array([True, True, False, False]), -0.5),
        (WHO, NOBODY, 0.0),
        (NOBODY, NOBODY, 1.0),
    ],
)
def test_seeds_agree_in_groups_not_in_their_names(one, other, alike):
    (first, second, prompt, value), *more = seed_agreement.pairs({2: {HAT: other}, 0: {HAT: one}})
    assert (first, second, prompt, more) == (0, 2, HAT, [])
    assert value == pytest.approx(alike)


def test_every_pair_of_seeds_counts_and_one_seed_is_no_pair():
    groups = {HAT: WHO, COAT: WHO}
    known = list(seed_agreement.pairs({0: groups, 1: groups, 2: groups}))
    assert [(a, b) for a, b, *_ in known] == [(0, 1)] * 2 + [(0, 2)] * 2 + [(1, 2)] * 2
    assert not list(seed_agreement.pairs({0: groups}))


# Means


def test_means_are_over_skewed_prompts_then_over_seeds(result):
    default, oracle = summaries.found_lines(result)
    assert (default["set"], default["estimator"], default["seeds"]) == ("scenes", "auto", [0, 1])
    assert default["auc"] == pytest.approx({"value": 0.8, "low": 0.7, "high": 0.9})
    assert default["balanced_accuracy"]["value"] == pytest.approx((0.8 + 0.65) / 2)
    assert (default["found"]["count"], default["found"]["of"]) == (3, 4)
    low, high = wilson(np.array(1), np.array(2))
    assert default["false_alarms"] == {"count": 1, "of": 2, "low": low, "high": high}
    assert default["seed_agreement"] == 1
    assert (oracle["seeds"], oracle["seed_agreement"]) == ([1], None)


def test_the_rand_index_is_for_more_than_two_labels(result):
    nothing = {"value": None, "low": None, "high": None}
    assert summaries.found_lines(result)[0]["adjusted_rand"] == nothing
    many = summaries.found_lines(result._replace(labels=4))[0]
    assert many["adjusted_rand"] == pytest.approx({"value": 0.525, "low": 0.35, "high": 0.7})


def test_where_nothing_is_skewed_there_are_false_alarms_alone():
    one = Found("auto", 0, {HAT: even(True), COAT: even(False)}, {HAT: WHO, COAT: NOBODY})
    (line,) = summaries.found_lines(Result("faces-balanced", 2, (one,), ()))
    assert (line["auc"]["value"], line["found"]["of"]) == (None, 0)
    assert (line["false_alarms"]["count"], line["false_alarms"]["of"]) == (1, 2)


def test_each_row_has_its_figures_at_each_scale(result):
    known = {(one["row"], one["scale"]): one for one in summaries.balanced_lines(result)}
    assert list(known) == [(row, w) for row in ("base", OURS, ORACLE) for w in (1.0, 2.5, 5.0)]
    assert known["base", 5.0]["bias"]["value"] == 0.6
    assert known[ORACLE, 5.0]["bias"] == pytest.approx(
        {"value": 0.1, "low": 0.06, "high": 0.12, "parity_value": 0.05}
    )
    assert known[OURS, 2.5]["frechet"] == {"value": 22.5, "low": 22.5, "high": 22.5}
    assert known[OURS, 1.0]["fidelity"] == {"value": 0.98, "low": 0.97, "high": 1.0}


def test_a_scale_that_was_not_drawn_has_no_seed(result):
    drawn = {"guided": {"1.0": arm(0.1, 0.5)}}
    other = dict(result.balanced[1]) | {"arms": drawn}
    known = summaries.balanced_lines(result._replace(balanced=(other,)))
    assert {one["scale"]: one["seeds"] for one in known} == {1.0: [0], 2.5: [], 5.0: []}
    assert known[-1]["bias"]["value"] is None


# Beside the oracle


def two_seeds(result, ours, oracle):
    """The runs of the fixture twice, with these Biases of the default and of the oracle."""
    runs = []
    for seed, values in enumerate(zip(ours, oracle, strict=True)):
        for run, value in zip(result.balanced, values, strict=True):
            guided = {"1.0": arm(value or 0.0, 0.5, fidelity=0.97, distance=30.0 + seed)}
            guided["1.0"]["bias"]["value"] = value
            runs.append(run | {"seed": seed, "arms": run["arms"] | {"guided": guided}})
    return result._replace(balanced=tuple(runs))


def test_the_default_is_compared_with_the_oracle_seed_by_seed(result):
    (line,) = oracle_lines(two_seeds(result, ours=(0.2, 0.3), oracle=(0.1, 0.0)))
    assert (line["set"], line["scale"], line["seeds"]) == ("scenes", 1.0, 2)
    assert line["difference"] == pytest.approx({"value": 0.2, "low": 0.1, "high": 0.3})
    assert line["cut"] == pytest.approx((0.6 - 0.25) / (0.6 - 0.05))
    assert line["fidelity"] == pytest.approx({"value": -0.01, "low": -0.01, "high": -0.01})
    assert line["distance"] == pytest.approx({"value": -59.5, "low": -60.0, "high": -59.0})


def test_a_seed_without_a_bias_is_not_compared(result):
    known = two_seeds(result, ours=(0.2, 0.3), oracle=(0.1, None))
    (line,) = oracle_lines(known)
    assert line["seeds"] == 1
    assert line["difference"]["value"] == pytest.approx(0.1)
    for run in known.balanced:
        for arms in run["arms"].values():
            arms["1.0"]["bias"]["parity_value"] = None
    assert next(oracle_lines(known))["cut"] == pytest.approx(0.4 / 0.5)


def test_where_the_oracle_takes_nothing_off_there_is_no_cut(result):
    (line,) = oracle_lines(two_seeds(result, ours=(0.6, 0.6), oracle=(0.58, 0.56)))
    assert line["cut"] is None
    assert not list(oracle_lines(result._replace(balanced=result.balanced[:1])))


# Files


def write(out, results, missing=(), unbuilt=()):
    seconds = {"scenes": {"found": 90.0, "balanced": 600.0}, "digits": {"found": 30.0}}
    return writing.write(out, results, 2, missing, unbuilt, seconds)


def test_the_page_has_both_tables_and_says_what_is_missing(result, tmp_path):
    missing = [{"part": "found", "set": "scenes", "names": ["labels, seed 0"], "of": 20}]
    text = write(tmp_path, [result], missing, ["digits"]).read_text()
    (head, *lines), (wide, *rows), _ = shown(text)
    assert dict(zip(head, lines[0], strict=True)) == {
        "set": "scenes",
        "estimator": "auto",
        "skewed prompts found": "3 of 4",
        "AUC": "0.800 (0.700..0.900)",
        "balanced accuracy": "0.725 (0.650..0.800)",
        "adjusted Rand index": "\N{EN DASH}",
        "seed agreement": "1.000",
        "found in even prompts": "1 of 2 [0.09, 0.91]",
    }
    assert lines[1][1] == "labels (1 of 2 seeds)"
    assert lines[1][6] == "\N{EN DASH}"
    cells = {row[1]: dict(zip(wide, row, strict=True)) for row in rows}
    assert list(cells) == [f"{row} (1 of 2 seeds)" for row in ("base", OURS, ORACLE)]
    base = cells["base (1 of 2 seeds)"]
    assert base["Bias, 2.5"] == "0.60 [0.56, 0.62]"
    assert base["fidelity, 5"] == "0.980 [0.970, 1.000]"
    assert cells[f"{OURS} (1 of 2 seeds)"]["Fréchet to balanced, 5"] == "25.00"
    for words in (
        "(the same command goes on): scenes, found: 1 of 20.",
        "Not built, so not here: digits (`invdiff data build NAME`).",
        "row, scale and seed, and what a balanced sampler of as many would show: 400 (scenes, Bias "
        "0.05).",
        "`invdiff benchmark run --suite method --seeds 2 --out DIR`, 2 minutes of wall time for "
        "found, 10 minutes of wall time for balanced, with ",
    ):
        assert words in text


def test_the_page_says_how_far_the_default_is_from_the_oracle(result, tmp_path):
    (head, low, *_) = shown(write(tmp_path, [result]).read_text())[2]
    assert dict(zip(head, low, strict=True)) == {
        "set": "scenes (1 of 2 seeds)",
        "scale": "1",
        "Bias less the oracle's": "0.00",
        "cut, of the oracle's": "1.00",
        "fidelity less the base's": "0.000",
        "Fréchet less the base's": "-69.00",
    }


def test_what_rounds_to_nothing_has_no_sign():
    assert [markdown.number(value, 3) for value in (-0.0004, -0.0006)] == ["0.000", "-0.001"]


def test_a_part_that_is_not_there_has_no_table(result, tmp_path):
    cheap = write(tmp_path, [result._replace(balanced=())]).read_text()
    assert [block[0][1] for block in shown(cheap)] == ["estimator"]
    dear = write(tmp_path, [result._replace(found=())]).read_text()
    assert [block[0][1] for block in shown(dear)] == ["row", "scale"]
    for text in (cheap, dear):
        assert "Not made yet" not in text
        assert "Not built" not in text
    assert not shown(write(tmp_path, []).read_text())


def test_every_figure_has_a_line_of_its_own(result, tmp_path):
    write(tmp_path, [result])
    with (tmp_path / "method.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))

    def one(**wanted):
        (line,) = [one for one in lines if wanted.items() <= one.items()]
        return line["value"], line["low"], line["high"]

    assert one(name="auto", seed="1", prompt=COAT, figure="auc") == ("0.5", "", "")
    assert one(name="auto", seed="1", prompt=COAT, figure="found") == ("0", "", "")
    assert one(name="auto", seed="0-1", prompt=HAT, figure="seed_agreement") == ("1.0", "", "")
    assert not [line for line in lines if line["prompt"] == BAND and line["figure"] != "found"]
    bias = one(part="balanced", name="base", seed="0", scale="5.0", figure="bias")
    assert bias == ("0.6", "0.5599999999999999", "0.62")
    assert one(name=OURS, scale="1.0", figure="frechet") == ("21.0", "", "")
    assert len([line for line in lines if line["part"] == "balanced"]) == 3 * 3 * 3
    assert {line["set"] for line in lines} == {"scenes"}


def test_the_record_has_all_lines_and_finite_numbers(result, tmp_path):
    write(tmp_path, [result])
    record = read_json(tmp_path / "method.json")
    assert [line["estimator"] for line in record["found"]] == ["auto", "labels"]
    assert len(record["balanced"]) == 9
    assert (record["seeds"], record["images_per_prompt"]) == ([0, 1], {"scenes": 400})
    nothing = Found("none", 0, {HAT: skewed(0.9, is_found=False)}, {HAT: NOBODY})
    write(tmp_path, [Result("scenes", 2, (nothing,), ())])
    (line,) = read_json(tmp_path / "method.json")["found"]
    assert line["false_alarms"] == {"count": 0, "of": 0, "low": None, "high": None}
    assert line["auc"]["value"] == found.CHANCE["auc"]
