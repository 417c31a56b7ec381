"""The tables of the suite of baselines: whose arm, which ends, in which words."""

import csv

import pytest

from invdiff.engine.storage.files import read_json, write_json
from invdiff.studies.benchmarking import averages, suite_tables, tables
from invdiff.studies.benchmarking.suites import ORACLE, OURS, ROWS, SUFFIX
from tests.engine.made_up import arm, ours, write_run

READ = {"text": ", of any gender", "words": 3, "known": 1, "prompts": 4, "cut": 2}


@pytest.fixture
def rows(tmp_path):
    """Two seeds of three rows; those of the suffix have pictures of the base model alone."""
    found = []
    for seed in (0, 1):
        shift = 0.1 * seed
        runs = {
            SUFFIX: {"base": {"1.0": arm(0.5 + shift, 0.9, 0.0, 0.95), "2.5": arm(0.8, 0.9, 0.0)}},
            ORACLE: {"guided": {"1.0": arm(0.05, 0.5), "2.5": arm(0.15, 0.5)}},
            OURS: ours(shift),
        }
        for row, arms in runs.items():
            folder = tmp_path / f"{row}-{seed}"
            write_run(folder, arms)
            write_json(folder / "stages" / "sample.json", {"prompt_suffix": READ})
            found.append(tables.read(folder, row, seed))
    return found


def cells(text):
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    head, _, *body = ([cell.strip() for cell in line] for line in lines)
    return {line[0]: dict(zip(head, line, strict=True)) for line in body}


def test_each_row_shows_its_own_arm_with_what_stands_beside_the_mean(rows, tmp_path):
    text = suite_tables.write(tmp_path, rows, "baselines").read_text()
    shown = cells(text)
    assert list(shown) == ["base", SUFFIX, ORACLE, OURS]
    assert shown[SUFFIX] == {
        "row": SUFFIX,
        "Bias, scale 1": "0.55 [0.51, 0.57]",
        "Bias, scale 2.5": "0.80 [0.76, 0.82]",
        "prompt fidelity": "0.950 [0.940, 1.000]",
        "Fréchet to balanced": "90.00",
        "recall": "0.500",
        "coverage": "0.400",
    }
    assert shown["base"]["Bias, scale 1"] == "0.65 [0.61, 0.67]"
    assert shown["base"]["Fréchet to balanced"] == "90.50 (90.00..91.00)"
    for words in (
        "Bias is 0 at parity and 1 with one class only",
        "`invdiff benchmark run faces --suite baselines --seeds 2 --out DIR`",
        f"- *{ORACLE}*: {ROWS[ORACLE].words}.",
        f"- *{SUFFIX}*: the base model, asked for diversity",
        "`, of any gender` after each prompt",
        "2 of its 3 words are none",
        "the ends of 2 of 4 prompts do not fit",
        f"Strengths, by seed: {SUFFIX} 0; {ORACLE} 1; {OURS} 1.",
    ):
        assert words in text


def test_a_suffix_that_is_read_whole_is_not_excused(rows, tmp_path):
    for run in rows:
        if run["row"] == SUFFIX:
            run["prompt_suffix"] = READ | {"known": 3, "cut": 0}
    text = suite_tables.write(tmp_path, rows, "baselines").read_text()
    assert "after each prompt and measured without it." in text
    assert "in pieces" not in text
    assert "do not fit" not in text


def test_summary_and_csv_hold_what_the_page_shows(rows, tmp_path):
    suite_tables.write(tmp_path, rows, "baselines")
    found = read_json(tmp_path / "summary.json")
    assert (found["suite"], found["seeds"], found["wall_seconds"]) == ("baselines", [0, 1], None)
    base = found["rows"][0]
    assert base["ends"]["frechet"] == {"low": 90.0, "high": 91.0}
    assert base["ends"]["fidelity"] == pytest.approx({"low": 0.97, "high": 1.0})
    assert set(found["words"]) == {"base", SUFFIX, ORACLE, OURS}
    with (tmp_path / "table.csv").open(newline="") as handle:
        lines = [line for line in csv.DictReader(handle) if line["row"] == SUFFIX]
    assert [float(line["bias.value"]) for line in lines] == [0.5, 0.8, 0.6, 0.8]


def test_four_classes_cannot_reach_a_bias_of_one(rows, tmp_path):
    for run in rows:
        for scales in run["arms"].values():
            for entry in scales.values():
                for shares in entry["shares"].values():
                    shares |= {"other": {"share": 0.0}, "more": {"share": 0.0}}
    text = suite_tables.write(tmp_path, rows, "baselines").read_text()
    assert "Bias is 0 at parity and 0.5 with one class only" in text


def test_what_no_seed_has_is_no_number(rows):
    empty = averages.Line("none", (0,), ({},))
    assert averages.ends(empty, "1.0")["recall"] == {"low": None, "high": None}
    assert averages.ends(empty, "1.0")["fidelity"] == {"low": None, "high": None}
