"""The benchmark's tables: means, what is missing, and the three files."""

import csv
import json
import re

import pytest

from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import RunError
from invdiff.studies.benchmarking import averages, tables
from invdiff.studies.benchmarking.suites import ORACLE, OURS, SUFFIX
from tests.engine.made_up import ANYBODY, BAND, HAT, arm, ours, write_run

DASH = "\N{EN DASH}"


def oracle():
    return {"guided": {"1.0": arm(0.05, 0.5), "2.5": arm(0.15, 0.5)}}


@pytest.fixture
def rows(tmp_path):
    """Two seeds of the method, whose figures are 0.1 apart, and of the oracle, which are equal."""
    write_run(tmp_path / "a0", ours())
    write_run(tmp_path / "a1", ours(0.1, 0.5), (True, True, False), (0.7, None, 0.6), 0.5)
    write_run(tmp_path / "b", oracle())
    found = [tables.read(tmp_path / f"a{seed}", OURS, seed) for seed in (0, 1)]
    return found + [tables.read(tmp_path / "b", ORACLE, seed) for seed in (0, 1)]


def table_of(text, first):
    """The cells of the Markdown table whose first column is headed ``first``, by row."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    start = next(at for at, line in enumerate(lines) if line and line[0] == first)
    end = next(at for at in range(start, len(lines)) if not lines[at])
    return {line[0]: dict(zip(lines[start], line, strict=True)) for line in lines[start + 2 : end]}


def test_the_headline_is_means_over_seeds(rows):
    expected = {
        "bias_base": 0.65,
        "bias_guided": 0.15,
        "bias_oracle": 0.05,
        "bias_base_cfg": 0.95,
        "bias_guided_cfg": 0.25,
        "bias_oracle_cfg": 0.15,
        "auc": ((0.9 + 0.8) / 2 + (0.7 + 0.6) / 2) / 2,
        "balanced_accuracy": ((0.8 + 0.7) / 2 + (0.6 + 0.5) / 2) / 2,
        "fidelity_base": 0.98,
        "fidelity_guided": 0.97,
        "fd_base": 90.5,
        "fd_guided": 20.0,
        "recall_base": 0.5,
        "recall_guided": 0.5,
        "coverage_base": 0.4,
        "coverage_guided": 0.4,
        "strength": 0.75,
        "hat_found": 1.0,
        "headband_found": 0.5,
        "plain_found": 0.5,
    }
    assert tables.headline(rows, OURS) == pytest.approx(expected)


def test_the_comparison_has_every_row_at_every_scale(rows):
    found = tables.comparison(rows, OURS)
    names = ["base", OURS, ORACLE]
    expected = [(name, scale) for scale in (1.0, 2.5) for name in names]
    assert [(entry["name"], entry["scale"]) for entry in found["rows"]] == expected
    guided = found["rows"][1]
    assert guided["bias"] == pytest.approx({"value": 0.15, "low": 0.11, "high": 0.17})
    assert (guided["fidelity"], guided["frechet"]) == pytest.approx((0.97, 20.0))
    assert found["note"].startswith("Means over 2 seeds")
    assert tables.comparison(rows[:1], OURS)["note"] == ""


def test_the_page_shows_both_tables(rows, tmp_path):
    write_json(tmp_path / "benchmark.json", {"wall_seconds": 600.4})
    text = tables.write(tmp_path, rows, OURS).read_text()
    shown = table_of(text, "row")
    assert list(shown) == ["base", OURS, ORACLE]
    assert shown[OURS] == {
        "row": OURS,
        "Bias, scale 1": "0.15 [0.11, 0.17]",
        "Bias, scale 2.5": "0.25 [0.21, 0.27]",
        "male, hat": "0.55..0.65",
        "male, headband": "0.50",
        "male, plain": "0.75",
        "prompt fidelity": "0.970",
        "Fréchet to balanced": "20.00",
        "recall": "0.500",
        "coverage": "0.400",
    }
    found = table_of(text, "prompt")
    assert found["hat"]["groups found"] == "2 of 2 seeds"
    assert found["headband"] == {
        "prompt": "headband",
        "groups found": "1 of 2 seeds",
        "inferred share": "0.100",
        "balanced accuracy": DASH,
        "AUC": DASH,
    }
    assert (found["plain"]["balanced accuracy"], found["plain"]["AUC"]) == ("0.600", "0.700")
    for words in (
        "400 images of each prompt, row, scale and seed; seeds 0, 1.",
        "a balanced sampler would show 0.05",
        "Strengths, by seed: inferred groups 1, 0.5; label oracle 1.",
        "`invdiff benchmark run faces --seeds 2 --out DIR`, 10 minutes of wall time",
        "with invdiff 0.1.0, torch 2.13.0, numpy 2.4.1.",
    ):
        assert words in text


def test_the_summary_holds_what_the_page_shows(rows, tmp_path):
    tables.write(tmp_path, rows, OURS)
    found = read_json(tmp_path / "summary.json")
    assert found["headline"] == pytest.approx(tables.headline(rows, OURS))
    assert (found["seeds"], found["wall_seconds"]) == ([0, 1], None)
    assert [(row["name"], row["scale"]) for row in found["rows"][:2]] == [
        ("base", 1.0),
        ("base", 2.5),
    ]
    share = found["rows"][2]["shares"][HAT]
    assert share == pytest.approx(
        {"class": "male", "mean": 0.6, "lowest": 0.55, "highest": 0.65}, abs=1e-9
    )
    assert found["discovery"][BAND]["found"] == 1
    write_json(tmp_path / "benchmark.json", {"wall_seconds": 60})
    tables.write(tmp_path, rows, OURS)
    assert read_json(tmp_path / "summary.json")["wall_seconds"] == 60


def test_the_csv_has_a_line_for_each_row_seed_and_scale(rows, tmp_path):
    tables.write(tmp_path, rows, OURS)
    with (tmp_path / "table.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    keys = [(line["row"], line["seed"], line["scale"]) for line in lines]
    names = ("base", OURS, ORACLE)
    assert keys == [(n, s, w) for n in names for s in ("0", "1") for w in ("1.0", "2.5")]
    guided = lines[keys.index((OURS, "1", "1.0"))]
    assert float(guided["bias.value"]) == pytest.approx(0.2)
    assert float(guided[f"shares.{ANYBODY}.male.share"]) == 0.75
    assert float(guided["frechet.training.value"]) == 7.0


def test_a_seed_without_guided_pictures_is_said_and_no_zero(tmp_path):
    write_run(tmp_path / "a0", ours())
    write_run(tmp_path / "a1", {"base": ours()["base"]}, (False, False, False))
    found = [tables.read(tmp_path / f"a{seed}", OURS, seed) for seed in (0, 1)]
    shown = table_of(tables.write(tmp_path, found, OURS).read_text(), "row")
    assert list(shown) == ["base", f"{OURS} (1 of 2 seeds)"]
    assert shown[f"{OURS} (1 of 2 seeds)"]["Bias, scale 1"] == "0.10 [0.06, 0.12]"
    alone = tables.headline(found[1:], OURS)
    assert (alone["bias_guided"], alone["fd_guided"]) == (None, None)
    assert alone["bias_base"] == pytest.approx(0.6)
    assert "bias_oracle" not in alone
    text = tables.write(tmp_path, found[1:], OURS).read_text()
    assert "and seed; seed 1. Intervals are" in text
    row = table_of(text, "row")[f"{OURS} (0 of 1 seeds)"]
    assert set(list(row.values())[1:]) == {DASH}
    assert table_of(text, "prompt")["hat"]["inferred share"] == DASH


def test_a_row_with_fewer_seeds_says_so(rows, tmp_path):
    some = rows[:3]
    expected = ["base", OURS, f"{ORACLE} (1 of 2 seeds)"]
    assert [row["name"] for row in tables.comparison(some, OURS)["rows"]] == expected * 2
    assert list(table_of(tables.write(tmp_path, some, OURS).read_text(), "row")) == expected
    assert tables.headline(some, OURS)["bias_oracle"] == pytest.approx(0.05)


def test_figures_that_are_not_defined_stay_out_of_the_means(rows, tmp_path):
    rows[0]["arms"]["guided"]["1.0"]["bias"]["value"] = None
    rows[0]["arms"]["guided"]["1.0"]["shares"][HAT]["male"]["share"] = None
    rows[1]["arms"]["guided"]["1.0"]["shares"][BAND]["male"]["share"] = None
    rows[0]["arms"]["guided"]["1.0"]["shares"][BAND]["male"]["share"] = None
    assert tables.headline(rows, OURS)["bias_guided"] == pytest.approx(0.2)
    shown = table_of(tables.write(tmp_path, rows, OURS).read_text(), "row")[OURS]
    assert (shown["male, hat"], shown["male, headband"]) == ("0.65", DASH)
    assert "NaN" not in json.dumps(read_json(tmp_path / "summary.json"))


def test_a_run_that_is_not_measured_yet(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.json is missing"):
        tables.read(tmp_path, OURS, 0)


def test_no_labels_no_agreement(tmp_path):
    write_run(tmp_path, ours())
    metrics = read_json(tmp_path / "metrics.json")
    write_json(tmp_path / "metrics.json", metrics | {"groups_vs_labels": None})
    found = tables.read(tmp_path, OURS, 0)
    assert tables.headline([found], OURS)["auc"] is None
    assert found["discovery"][HAT]["found"] is True


@pytest.mark.parametrize(
    ("prompts", "short"),
    [
        ([HAT, BAND, ANYBODY], ["hat", "headband", "plain"]),
        ([ANYBODY], ["person"]),
        (["red car", "blue car"], ["red", "blue"]),
        (["a hat", "a red hat", "a dog"], ["a hat", "a red hat", "a dog"]),  # two hats
    ],
)
def test_short_names_stay_apart(prompts, short):
    assert list(averages.short_names(prompts).values()) == short


def test_the_page_names_no_machine(rows, tmp_path):
    text = tables.write(tmp_path, rows, OURS).read_text()
    assert str(tmp_path) not in text
    assert not re.search(r"unbiased|removed", text)


def test_where_nothing_was_trained_the_guided_model_is_the_base(tmp_path):
    base = {"base": {"1.0": arm(0.6, 0.9, 0.0)}}
    write_run(tmp_path / "skipped", base, skipped=True)
    write_run(tmp_path / "base alone", base)
    arms = tables.read(tmp_path / "skipped", OURS, 0)["arms"]
    assert arms == {"base": base["base"], "guided": base["base"]}
    assert tables.read(tmp_path / "base alone", OURS, 0)["arms"] == base
    write_json(tmp_path / "skipped/stages/sample.json", {"prompt_suffix": None})
    assert tables.read(tmp_path / "skipped", SUFFIX, 0)["arms"] == base
