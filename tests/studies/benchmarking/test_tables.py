"""The benchmark's tables: what is read of runs, means, what is missing, and the three files."""

import json
import re

import pandas as pd
import pytest

from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import RunError
from invdiff.studies.benchmarking import measured as summary
from invdiff.studies.benchmarking import page, rows
from invdiff.studies.benchmarking.jobs import Job
from invdiff.studies.benchmarking.measured import COLUMNS, read_runs
from invdiff.studies.benchmarking.page import where
from invdiff.studies.benchmarking.suites import ORACLE, OURS, ROWS, SUFFIX
from tests.engine.made_up import ANYBODY, BAND, HAT, arm, ours, write_run

DASH = "\N{EN DASH}"
READ = {"text": ", of any gender", "words": 3, "known": 1, "prompts": 4, "cut": 2}


def job(place, row, seed):
    return Job(str(place), "faces", row, seed)


@pytest.fixture
def runs(tmp_path):
    """Two seeds of the method, whose figures are 0.1 apart, and of the oracle, which are equal."""
    write_run(job(tmp_path, OURS, 0).folder, ours())
    second = job(tmp_path, OURS, 1).folder
    write_run(second, ours(0.1, 0.5), (True, True, False), (0.7, None, 0.6), 0.5)
    for seed in (0, 1):
        oracle = {"guided": {"1.0": arm(0.05, 0.5), "2.5": arm(0.15, 0.5)}}
        write_run(job(tmp_path, ORACLE, seed).folder, oracle)
    return [job(tmp_path, row, seed) for row in (OURS, ORACLE) for seed in (0, 1)]


@pytest.fixture
def suffixed(runs, tmp_path):
    """The same beside the row of the suffix, which has pictures of the base model alone."""
    own = [job(tmp_path, SUFFIX, seed) for seed in (0, 1)]
    for one in own:
        first = arm(0.5 + 0.1 * one.seed, 0.9, 0.0, 0.95)
        write_run(one.folder, {"base": {"1.0": first, "2.5": arm(0.8, 0.9, 0.0)}})
        write_json(one.folder / "stages" / "sample.json", {"prompt_suffix": READ})
    return [*own, *runs]


def change(one, edit):
    """Let ``edit`` change the arms of a run."""
    path = one.folder / "metrics.json"
    metrics = read_json(path)
    edit(metrics["arms"])
    write_json(path, metrics)


def table_of(text, first):
    """The cells of the Markdown table whose first column is headed ``first``, by row."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    start = next(at for at, line in enumerate(lines) if line and line[0] == first)
    end = next(at for at in range(start, len(lines)) if not lines[at])
    return {line[0]: dict(zip(lines[start], line, strict=True)) for line in lines[start + 2 : end]}


def mean_of(rows, row, metric, **where_else):
    return summary.number_of(summary.over_seeds(rows), row, metric, **where_else)


def written(runs, out, suite="controls"):
    return rows.write_rows(out, read_runs(runs), suite).read_text()


# Reading


def test_every_number_of_a_run_has_a_line_of_its_own(runs):
    found = read_runs(runs).rows
    assert list(found.columns) == list(COLUMNS)
    keys = ["set", "row", "seed", "scale", "prompt", "group", "metric"]
    assert not found.duplicated(keys).any()
    assert found["row"].iloc[0] == "base"
    bias = where(found, row=OURS, seed=1, scale=1.0, metric="bias").iloc[0]
    assert (bias.value, bias.low, bias.high) == pytest.approx((0.2, 0.16, 0.22))
    share = where(found, row=OURS, seed=1, scale=1.0, metric="share", prompt=ANYBODY, group="male")
    assert (share.value.item(), share["count"].item()) == (0.75, 9)
    for metric, value in (("frechet.training", 7.0), ("bias.parity_value", 0.05), ("images", 1200)):
        assert where(found, row="base", seed=0, scale=2.5, metric=metric).value.item() == value


def test_a_run_that_is_not_measured_yet(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.json is missing"):
        read_runs([job(tmp_path, OURS, 0)])


def test_no_labels_no_agreement(runs):
    for one in runs:
        metrics = read_json(one.folder / "metrics.json")
        write_json(one.folder / "metrics.json", metrics | {"groups_vs_labels": None})
    found = read_runs(runs[:1]).rows
    assert pd.isna(mean_of(found, OURS, "auc"))
    assert where(found, metric="found", prompt=HAT, row=OURS).value.item() == 1


def test_where_nothing_was_trained_the_guided_model_is_the_base(tmp_path):
    base = {"base": {"1.0": arm(0.6, 0.9, 0.0)}}
    one = job(tmp_path, OURS, 0)
    write_run(one.folder, base, skipped=True)
    found = where(read_runs([one]).rows, metric="bias")
    assert found.set_index("row")["value"].to_dict() == {"base": 0.6, OURS: 0.6}
    write_run(one.folder, base)
    assert where(read_runs([one]).rows, metric="bias")["row"].tolist() == ["base"]
    other = job(tmp_path, SUFFIX, 0)
    write_run(other.folder, base, skipped=True)
    write_json(other.folder / "stages" / "sample.json", {"prompt_suffix": None})
    assert where(read_runs([other]).rows, metric="bias")["row"].tolist() == [SUFFIX]


def test_of_several_groups_the_share_is_that_of_all_but_the_first(runs):
    path = runs[0].folder / "discovery.json"
    found = read_json(path)
    found["prompts"][HAT]["groups"] = [{"share": 0.5}, {"share": 0.3}, {"share": 0.2}]
    write_json(path, found)
    lines = where(read_runs(runs[:1]).rows, metric="inferred_share")
    assert where(lines, prompt=HAT).value.item() == 0.5
    assert where(lines, prompt=ANYBODY).value.item() == 0.1
    assert pd.isna(where(lines, prompt=BAND).value.item()), "no groups, no share"


# Means


def test_numbers_are_means_over_seeds_and_prompts(runs):
    found = read_runs(runs).rows
    for row, metric, scale, value in (
        ("base", "bias", 2.5, 0.95),
        (OURS, "bias", 1.0, 0.15),
        (ORACLE, "bias", 2.5, 0.15),
        ("base", "frechet.balanced", 1.0, 90.5),
        (OURS, "fidelity", 1.0, 0.97),
    ):
        assert mean_of(found, row, metric, scale=scale) == pytest.approx(value)
    agreed = ((0.9 + 0.8) / 2 + (0.7 + 0.6) / 2) / 2
    assert mean_of(found, OURS, "auc") == pytest.approx(agreed)
    assert mean_of(found, OURS, "calibrated_strength") == 0.75
    assert mean_of(found, OURS, "found", prompt=BAND) == 0.5


def test_ends_are_means_of_the_seeds_own_beside_the_lowest_and_highest_seed(runs):
    found = summary.over_seeds(read_runs(runs).rows)
    bias = where(found, row=OURS, scale=1.0, metric="bias").iloc[0]
    assert (bias.value, bias.low, bias.high) == pytest.approx((0.15, 0.11, 0.17))
    assert (bias.lowest, bias.highest, bias["count"]) == pytest.approx((0.1, 0.2, 2))
    distance = where(found, row="base", scale=1.0, metric="frechet.balanced").iloc[0]
    assert (distance.lowest, distance.highest) == (90.0, 91.0)
    assert pd.isna(distance.low)


def test_means_are_exactly_rounded():
    assert summary.mean([0.1] * 10 + [float("nan")]) == 0.1
    assert pd.isna(summary.mean([float("nan")]))


def test_the_comparison_has_every_row_at_every_scale(runs):
    found = summary.comparison(read_runs(runs).rows)
    names = ["base", OURS, ORACLE]
    expected = [(name, scale) for scale in (1.0, 2.5) for name in names]
    assert [(entry["name"], entry["scale"]) for entry in found["rows"]] == expected
    guided = found["rows"][1]
    assert guided["bias"] == pytest.approx({"value": 0.15, "low": 0.11, "high": 0.17})
    assert (guided["fidelity"], guided["frechet"]) == pytest.approx((0.97, 20.0))
    assert found["note"].startswith("Means over 2 seeds")
    assert summary.comparison(read_runs(runs[:1]).rows)["note"] == ""


def test_figures_that_are_not_defined_stay_out_of_the_means(runs, tmp_path):
    def first(arms):
        arms["guided"]["1.0"]["bias"]["value"] = None
        for prompt in (HAT, BAND):
            arms["guided"]["1.0"]["shares"][prompt]["male"]["share"] = None

    def second(arms):
        arms["guided"]["1.0"]["shares"][BAND]["male"]["share"] = None

    change(runs[0], first)
    change(runs[1], second)
    assert mean_of(read_runs(runs).rows, OURS, "bias", scale=1.0) == pytest.approx(0.2)
    shown = table_of(written(runs, tmp_path), "row")[OURS]
    assert (shown["male, hat"], shown["male, headband"]) == ("0.65", DASH)
    assert "NaN" not in (tmp_path / "summary.json").read_text()


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
    assert list(summary.short_names(prompts).values()) == short


def test_what_rounds_to_nothing_has_no_sign():
    assert [page.number(value, 3) for value in (-0.0004, -0.0006)] == ["0.000", "-0.001"]


# Files


def test_the_page_shows_both_tables(runs, tmp_path):
    write_json(tmp_path / "benchmark.json", {"wall_seconds": 600.4})
    text = written(runs, tmp_path)
    shown = table_of(text, "row")
    assert list(shown) == ["base", OURS, ORACLE]
    assert shown[OURS] == {
        "row": OURS,
        "Bias, scale 1": "0.15 [0.11, 0.17]",
        "Bias, scale 2.5": "0.25 [0.21, 0.27]",
        "male, hat": "0.55..0.65",
        "male, headband": "0.50",
        "male, plain": "0.75",
        "prompt fidelity": "0.970 [0.960, 1.000]",
        "Fréchet to balanced": "20.00",
        "recall": "0.500",
        "coverage": "0.400",
    }
    assert shown["base"]["Fréchet to balanced"] == "90.50 (90.00..91.00)"
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
        "1 with one class only; a balanced sampler would show 0.05",
        "Strengths, by seed: inferred groups 1, 0.5; label oracle 1.",
        f"- *{ORACLE}*: {ROWS[ORACLE].words}.",
        "`invdiff benchmark run faces --seeds 2 --out DIR`, 10 minutes of wall time",
        "with invdiff 0.1.0, torch 2.13.0, numpy 2.4.1.",
    ):
        assert words in text
    assert str(tmp_path) not in text, "the page names no machine"
    assert not re.search(r"unbiased|removed", text)


def test_the_summary_holds_what_the_page_shows(runs, tmp_path):
    written(runs, tmp_path)
    found = read_json(tmp_path / "summary.json")
    assert (found["seeds"], found["wall_seconds"]) == ([0, 1], None)
    assert (found["suite"], set(found["words"])) == ("controls", {"base", OURS, ORACLE})
    lines = pd.DataFrame(found["rows"])
    share = where(lines, row=OURS, scale=1.0, metric="share", prompt=HAT, group="male").iloc[0]
    assert (share.value, share.lowest, share.highest) == pytest.approx((0.6, 0.55, 0.65))
    assert where(lines, row=OURS, metric="found", prompt=BAND)["total"].item() == 1
    write_json(tmp_path / "benchmark.json", {"wall_seconds": 60})
    written(runs, tmp_path)
    assert read_json(tmp_path / "summary.json")["wall_seconds"] == 60


def test_the_csv_is_the_tidy_table(runs, tmp_path):
    written(runs, tmp_path)
    found = pd.read_csv(tmp_path / "table.csv", keep_default_na=False, na_values=[""])
    expected = read_runs(runs).rows
    assert len(found) == len(expected)
    assert found["value"].equals(expected["value"]), "to the last digit"
    assert set(found["row"]) == {"base", OURS, ORACLE}


def test_a_seed_without_guided_pictures_is_said_and_no_zero(runs, tmp_path):
    write_run(runs[1].folder, {"base": ours()["base"]}, (False, False, False))
    shown = table_of(written(runs[:2], tmp_path), "row")
    assert list(shown) == ["base", f"{OURS} (1 of 2 seeds)"]
    assert shown[f"{OURS} (1 of 2 seeds)"]["Bias, scale 1"] == "0.10 [0.06, 0.12]"
    alone = read_runs(runs[1:2]).rows
    assert pd.isna(mean_of(alone, OURS, "bias", scale=1.0))
    assert mean_of(alone, "base", "bias", scale=1.0) == pytest.approx(0.6)
    text = written(runs[1:2], tmp_path)
    assert "and seed; seed 1. Intervals are" in text
    row = table_of(text, "row")[f"{OURS} (0 of 1 seeds)"]
    assert set(list(row.values())[1:]) == {DASH}
    assert table_of(text, "prompt")["hat"]["inferred share"] == DASH


def test_a_row_with_fewer_seeds_says_so(runs, tmp_path):
    some = read_runs(runs[:3]).rows
    expected = ["base", OURS, f"{ORACLE} (1 of 2 seeds)"]
    assert [row["name"] for row in summary.comparison(some)["rows"]] == expected * 2
    assert list(table_of(written(runs[:3], tmp_path), "row")) == expected
    assert mean_of(some, ORACLE, "bias", scale=1.0) == pytest.approx(0.05)


# The suffix of the prompt


def test_a_row_of_the_base_model_shows_its_own_pictures(suffixed, tmp_path):
    text = written(suffixed, tmp_path, "baselines")
    shown = table_of(text, "row")
    assert list(shown) == ["base", SUFFIX, OURS, ORACLE]
    assert shown[SUFFIX]["Bias, scale 1"] == "0.55 [0.51, 0.57]"
    assert shown[SUFFIX]["prompt fidelity"] == "0.950 [0.940, 1.000]"
    assert shown["base"]["Bias, scale 1"] == "0.65 [0.61, 0.67]"
    for words in (
        "`invdiff benchmark run faces --suite baselines --seeds 2 --out DIR`",
        f"- *{SUFFIX}*: the base model, asked for diversity",
        "`, of any gender` after each prompt",
        "2 of its 3 words are none",
        "the ends of 2 of 4 prompts do not fit",
        f"Strengths, by seed: {SUFFIX} 0; ",
    ):
        assert words in text


def test_a_suffix_that_is_read_whole_is_not_excused():
    told = rows.row_words([SUFFIX], READ | {"known": 3, "cut": 0})[SUFFIX]
    assert told.endswith("after each prompt and measured without it")


def test_four_classes_cannot_reach_a_bias_of_one(runs, tmp_path):
    def more(arms):
        for entry in (entry for scales in arms.values() for entry in scales.values()):
            for shares in entry["shares"].values():
                shares |= {"other": {"share": 0.0}, "more": {"share": 0.0}}

    for one in runs:
        change(one, more)
    assert "Bias is 0 at parity and 0.5 with one class only" in written(runs, tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["rows"]
