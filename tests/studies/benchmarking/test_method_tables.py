"""The tables of the method's suite: which means, which ends, in which words."""

import numpy as np
import pandas as pd
import pytest

from invdiff.core.uncertainty.intervals import wilson
from invdiff.engine.run.results import Groups
from invdiff.engine.storage.files import read_json
from invdiff.studies.benchmarking import method_tables as tables
from invdiff.studies.benchmarking.jobs import Job
from invdiff.studies.benchmarking.measured import read_runs, tidy
from invdiff.studies.benchmarking.method_tables import CHANCE
from invdiff.studies.benchmarking.page import where
from invdiff.studies.benchmarking.suites import ORACLE, OURS
from tests.engine.made_up import arm, write_run

HAT, COAT, BAND = "a hat", "a coat", "a band"
WHO = np.array([True, False, False, True])
NOBODY = np.zeros(4, bool)
SCALES = ("1.0", "2.5", "5.0")
DASH = "\N{EN DASH}"


def searched(name, seed, hat, coat, band, missed=()):
    """A discovery: the agreement of two skewed prompts, whether an even one has groups."""
    nothing = float("nan")
    agreement = {
        "auc": {HAT: hat, COAT: coat, BAND: nothing},
        "balanced_accuracy": {HAT: hat - 0.1, COAT: coat - 0.1, BAND: nothing},
        "adjusted_rand": {HAT: hat - 0.2, COAT: coat - 0.2, BAND: nothing},
    }
    found = {HAT: HAT not in missed, COAT: COAT not in missed, BAND: band}
    lines = tables.agreement_lines(found, agreement)
    return [{"set": "scenes", "row": name, "seed": seed} | line for line in lines]


@pytest.fixture
def found():
    """Two seeds of the default and one of the oracle."""
    lines = searched("auto", 0, 1.0, 0.8, False) + searched("auto", 1, 0.9, 0.8, True, (COAT,))
    known = {"set": "scenes", "row": "auto", "seed": "0-1", "metric": "seed_agreement"}
    lines += [known | {"prompt": prompt, "value": 1.0} for prompt in (HAT, COAT)]
    return tidy(lines + searched("labels", 1, 1.0, 1.0, False))


@pytest.fixture
def balanced(tmp_path):
    """Makes runs of the method and of the oracle, of as many seeds as Biases are given."""

    def make(ours=(0.1,), oracle=(0.1,), scales=SCALES):
        made = []
        for seed, values in enumerate(zip(ours, oracle, strict=True)):
            for row, value in zip((OURS, ORACLE), values, strict=True):
                one = Job(str(tmp_path), "scenes", row, seed)
                base = {scale: arm(0.6, 0.9, 0.0, distance=90.0) for scale in scales}
                guided = {
                    scale: arm(
                        value or 0.0, 0.5, fidelity=0.97, distance=29.0 + seed + float(scale)
                    )
                    for scale in scales
                }
                for entry in guided.values():
                    entry["bias"]["value"] = value
                drawn = {"base": base} if row == OURS else {}
                write_run(one.folder, drawn | {"guided": guided})
                made.append(one)
        return read_runs(made).rows

    return make


def shown(text):
    """The tables of a page: lists of lines, each a list of cells, without the ruler."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    return [
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in (block[0], *block[2:])]
        for block in blocks
    ]


def write(out, rows, missing=(), unbuilt=()):
    facts = {
        "sets": ["scenes"],
        "seeds": [0, 1],
        "images_per_prompt": {"scenes": 400},
        "missing": missing,
        "not_built": unbuilt,
        "wall_seconds": {"scenes": {"found": 90.0, "balanced": 600.0}, "digits": {"found": 30.0}},
        "changes": {},
    }
    return tables.write_method(out, rows, facts)


# Seeds that agree


def test_groups_are_compared_image_by_image_whatever_the_order_of_the_rows():
    table = {
        "sample_id": ["b", "d", "a", "c", "e"],
        "prompt": [HAT, COAT, HAT, HAT, COAT],
        "q_1": [0.9, 0.8, 0.1, 0.51, 0.5],
        "weight": [1.0] * 5,
    }
    groups = tables.groups_of(Groups.of_columns(table), {HAT: True, COAT: False})
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
    (first, second, prompt, value), *more = tables.seed_pairs({2: {HAT: other}, 0: {HAT: one}})
    assert (first, second, prompt, more) == (0, 2, HAT, [])
    assert value == pytest.approx(alike)


def test_every_pair_of_seeds_counts_and_one_seed_is_no_pair():
    groups = {HAT: WHO, COAT: WHO}
    known = list(tables.seed_pairs({0: groups, 1: groups, 2: groups}))
    assert [(a, b) for a, b, *_ in known] == [(0, 1)] * 2 + [(0, 2)] * 2 + [(1, 2)] * 2
    assert not list(tables.seed_pairs({0: groups}))


# Means


def test_means_are_over_skewed_prompts_then_over_seeds(found):
    summary = tables.found_summary(found)
    default = where(summary, row="auto").set_index("metric")
    auc = default.loc["auc"]
    assert (auc.value, auc.lowest, auc.highest) == pytest.approx((0.8, 0.7, 0.9))
    assert default.value["balanced_accuracy"] == pytest.approx((0.8 + 0.65) / 2)
    rand = default.loc["adjusted_rand"]
    assert (rand.value, rand.lowest, rand.highest) == pytest.approx((0.525, 0.35, 0.7))
    assert tuple(default.loc["found", ["total", "count"]]) == (3, 4)
    alarms = default.loc["found_in_even"]
    assert (alarms.total, alarms["count"]) == (1, 2)
    assert (alarms.low, alarms.high) == tuple(wilson(np.array(1), np.array(2)))
    assert default.value["seed_agreement"] == 1
    oracle = where(summary, row="labels")
    assert "seed_agreement" not in set(oracle["metric"])


def test_where_nothing_is_skewed_there_are_false_alarms_alone():
    nothing = {HAT: float("nan"), COAT: float("nan")}
    lines = tables.agreement_lines({HAT: True, COAT: False}, dict.fromkeys(CHANCE, nothing))
    known = {"set": "faces-balanced", "row": "auto", "seed": 0}
    (line,) = tables.found_summary(tidy(known | line for line in lines)).to_dict("records")
    assert (line["metric"], line["total"], line["count"]) == ("found_in_even", 1, 2)


def test_each_row_has_its_figures_at_each_scale(balanced, tmp_path):
    write(tmp_path, balanced())
    known = pd.DataFrame(read_json(tmp_path / "method.json")["balanced"])
    bias = where(known, metric="bias")
    assert list(zip(bias.row, bias.scale, strict=True)) == [
        (row, scale) for row in ("base", OURS, ORACLE) for scale in (1.0, 2.5, 5.0)
    ]
    one = where(bias, row=ORACLE, scale=5.0).iloc[0]
    assert (one.value, one.low, one.high) == pytest.approx((0.1, 0.06, 0.12))
    distance = where(known, row=OURS, scale=2.5, metric="frechet.balanced").iloc[0]
    assert (distance.value, distance.lowest, distance.highest) == (31.5, 31.5, 31.5)


# Beside the oracle


def lines_beside(rows):
    return tables.against_oracle(tables.beside_oracle(rows))


def test_the_default_is_compared_with_the_oracle_seed_by_seed(balanced):
    lines = lines_beside(balanced((0.2, 0.3), (0.1, 0.0), SCALES[:1])).set_index("metric")
    assert set(lines["set"]) == {"scenes"}
    assert set(lines["scale"]) == {1.0}
    ends = ["value", "lowest", "highest"]
    assert tuple(lines.loc["bias_less_oracle", ends]) == pytest.approx((0.2, 0.1, 0.3))
    assert tuple(lines.loc["fidelity_less_base", ends]) == pytest.approx((-0.01,) * 3)
    assert tuple(lines.loc["frechet_less_base", ends]) == pytest.approx((-59.5, -60.0, -59.0))
    assert lines.value["cut"] == pytest.approx((0.6 - 0.25) / (0.6 - 0.05))
    assert lines["count"]["cut"] == 2


def test_a_seed_without_a_bias_is_not_compared(balanced):
    rows = balanced((0.2, 0.3), (0.1, None), SCALES[:1])
    lines = lines_beside(rows).set_index("metric")
    assert lines["count"].to_dict() == dict.fromkeys(lines.index, 1)
    assert lines.value["bias_less_oracle"] == pytest.approx(0.1)
    alone = lines_beside(rows[rows["metric"] != "bias.parity_value"]).set_index("metric")
    assert alone.value["cut"] == pytest.approx(0.4 / 0.5)


def test_where_the_oracle_takes_nothing_off_there_is_no_cut(balanced):
    rows = balanced((0.6, 0.6), (0.58, 0.56), SCALES[:1])
    assert pd.isna(where(lines_beside(rows), metric="cut")["value"].item())
    assert lines_beside(rows[rows["row"] != ORACLE]).empty


# Files


def test_the_page_has_all_tables_and_says_what_is_missing(found, balanced, tmp_path):
    missing = [{"part": "found", "set": "scenes", "names": ["labels, seed 0"], "of": 20}]
    rows = pd.concat([found[found["metric"] != "adjusted_rand"], balanced()])
    text = write(tmp_path, rows, missing, ["digits"]).read_text()
    (head, *lines), (wide, *cells), (oracle_head, low, *_) = shown(text)
    assert dict(zip(head, lines[0], strict=True)) == {
        "set": "scenes",
        "estimator": "auto",
        "skewed prompts found": "3 of 4",
        "AUC": "0.800 (0.700..0.900)",
        "balanced accuracy": "0.725 (0.650..0.800)",
        "adjusted Rand index": DASH,
        "seed agreement": "1.000",
        "found in even prompts": "1 of 2 [0.09, 0.91]",
    }
    assert lines[1][1] == "labels (1 of 2 seeds)"
    assert lines[1][6] == DASH
    by_row = {row[1]: dict(zip(wide, row, strict=True)) for row in cells}
    assert list(by_row) == [f"{row} (1 of 2 seeds)" for row in ("base", OURS, ORACLE)]
    base = by_row["base (1 of 2 seeds)"]
    assert base["Bias, 2.5"] == "0.60 [0.56, 0.62]"
    assert base["fidelity, 5"] == "0.980 [0.970, 1.000]"
    assert by_row[f"{OURS} (1 of 2 seeds)"]["Fréchet to balanced, 5"] == "34.00"
    assert dict(zip(oracle_head, low, strict=True)) == {
        "set": "scenes (1 of 2 seeds)",
        "scale": "1",
        "Bias less the oracle's": "0.00",
        "cut, of the oracle's": "1.00",
        "fidelity less the base's": "-0.010",
        "Fréchet less the base's": "-60.00",
    }
    for words in (
        "(the same command goes on): scenes, found: 1 of 20.",
        "Not built, so not here: digits (`invdiff data build NAME`).",
        "would show: 400 (scenes, Bias 0.05).",
        "`invdiff benchmark run --suite method --seeds 2 --out DIR`, 2 minutes of wall time for "
        "found, 10 minutes of wall time for balanced, with ",
    ):
        assert words in text


def test_a_part_that_is_not_there_has_no_table(found, balanced, tmp_path):
    cheap = write(tmp_path, found).read_text()
    assert [block[0][1] for block in shown(cheap)] == ["estimator"]
    dear = write(tmp_path, balanced()).read_text()
    assert [block[0][1] for block in shown(dear)] == ["row", "scale"]
    for text in (cheap, dear):
        assert "Not made yet" not in text
        assert "Not built" not in text
    assert not shown(write(tmp_path, tidy([])).read_text())


def test_every_figure_has_a_line_of_its_own(found, balanced, tmp_path):
    write(tmp_path, pd.concat([found, balanced()]))
    lines = pd.read_csv(tmp_path / "method.csv", dtype=str, keep_default_na=False)

    def one(**wanted):
        (line,) = where(lines, **wanted).to_dict("records")
        return line["value"], line["low"], line["high"]

    assert one(row="auto", seed="1", prompt=COAT, metric="auc") == ("0.5", "", "")
    assert one(row="auto", seed="1", prompt=COAT, metric="found") == ("0.0", "", "")
    assert one(row="auto", seed="0-1", prompt=HAT, metric="seed_agreement") == ("1.0", "", "")
    assert set(where(lines, prompt=BAND)["metric"]) == {"found_in_even"}
    bias = one(row="base", seed="0", scale="5.0", metric="bias")
    assert bias == ("0.6", "0.5599999999999999", "0.62")
    assert one(row=OURS, scale="1.0", metric="frechet.balanced")[0] == "30.0"
    assert one(row=OURS, scale="1.0", metric="frechet_less_base")[0] == "-60.0"
    assert set(lines["set"]) == {"scenes"}


def test_the_record_has_all_lines_and_finite_numbers(found, balanced, tmp_path):
    write(tmp_path, pd.concat([found, balanced()]))
    record = read_json(tmp_path / "method.json")
    assert {line["row"] for line in record["found"]} == {"auto", "labels"}
    assert {line["row"] for line in record["balanced"]} == {"base", OURS, ORACLE}
    assert len([line for line in record["against_oracle"] if line["metric"] == "cut"]) == 3
    assert (record["seeds"], record["images_per_prompt"]) == ([0, 1], {"scenes": 400})
    assert "NaN" not in (tmp_path / "method.json").read_text()
