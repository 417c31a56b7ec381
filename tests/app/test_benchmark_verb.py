"""`invdiff benchmark run` after the runs: the reports with the other rows beside their own."""

import shutil
import sys

import pytest

from invdiff.app.cli import main
from invdiff.engine.storage.files import write_json, write_text
from invdiff.studies.benchmarking import jobs, rows
from invdiff.studies.benchmarking import method_suite as suite
from invdiff.studies.benchmarking.suites import OURS
from tests.app.report_fixture import write_run

NOTE = "Means over 2 seeds."


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A benchmark whose runs are made up and whose rows are done at once."""
    out = tmp_path / "out"
    run = write_run(tmp_path, per_prompt=8)
    for seed in range(2):
        shutil.copytree(run.path, jobs.Job(str(out), "faces", OURS, seed).folder)

    def benchmark_rows(name, seeds, out, suite, some, changes):
        bias = {"value": 0.08, "low": 0.05, "high": 0.11}
        for seed in range(seeds):
            beside = [{"name": f"row beside seed {seed}", "scale": 1.0, "bias": bias}]
            folder = jobs.Job(str(out), "faces", OURS, seed).folder
            write_json(folder / "comparison.json", {"rows": beside, "note": NOTE})
        return write_text(out / "table.md", f"| {name} |\n")

    monkeypatch.setattr(rows, "benchmark_rows", benchmark_rows)
    return out


def test_the_reports_show_the_other_rows(out, capsys):
    words = ["benchmark", "run", "faces", "--seeds", "2", "--out", str(out)]
    for _ in range(2):  # a report that is there already is made again: the rows are new
        assert main(words) == 0
        told = capsys.readouterr().out
        assert told.splitlines()[0] == "| faces |"
        assert f"table: {out / 'table.md'}" in told
        assert f"report: {out / 'report.html'}" in told
        reports = [
            jobs.Job(str(out), "faces", OURS, seed).folder / "report.html" for seed in range(2)
        ]
        text = (out / "report.html").read_text()
        assert text == reports[0].read_text()
        for seed, report in enumerate(reports):
            assert f"row beside seed {seed}" in report.read_text()
        assert f"than this run had. {NOTE}" in text
        for report in reports:
            report.write_text("old")


def test_an_unknown_benchmark_is_a_usage_error(tmp_path, capsys):
    assert main(["benchmark", "run", "cats", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error == [
        "invdiff: error: there is no benchmark 'cats': one of digits, faces, faces-balanced, "
        "faces-marginal, faces-named, faces-race, faces-several, scenes"
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["faces", "digits"], "--suite controls takes the name of one built-in set, but got 2"),
        (
            ["--suite", "augment"],
            "--suite augment takes the name of one built-in set, as in `benchmark run faces`",
        ),
        (["faces", "--part", "found"], "--part belongs to --suite method"),
        (
            ["--suite", "method", "--part", "lost"],
            "there is no part 'lost': one of found, balanced",
        ),
        (["faces", "--train.steps=3"], "settings belong to --suite ablation, method or attributes"),
        (["faces", "--rows", "rank-4"], "--rows belongs to --suite ablation"),
        (["faces", "--suite", "ablation", "--train.stepz=3"], "did you mean --train.steps?"),
        (["faces", "--suite", "all"], "one of controls, baselines, ablation, augment, method"),
    ],
)
def test_what_a_suite_does_not_take_is_a_usage_error_in_one_line(
    tmp_path, monkeypatch, capsys, words, told
):
    monkeypatch.setattr(jobs, "do_jobs", lambda *_: pytest.fail("work was begun"))
    assert main(["benchmark", "run", *words, "--out", str(tmp_path / "out")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("invdiff: error: ")
    assert told in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "names", "part", "changes"),
    [
        (["--suite", "method"], [], None, []),
        (
            ["--suite", "method", "faces", "--sample.images_per_prompt=7"],
            ["faces"],
            None,
            ["sample.images_per_prompt=7"],
        ),
        (
            ["scenes", "digits", "--suite", "method", "--part", "found"],
            ["scenes", "digits"],
            "found",
            [],
        ),
        (["--suite", "method", "--part", "balanced", "faces"], ["faces"], "balanced", []),
    ],
)
def test_the_suite_of_the_method_takes_any_number_of_sets(
    tmp_path, monkeypatch, capsys, words, names, part, changes
):
    asked = []

    def benchmark_method(*of):
        asked.append(of)
        return write_text(tmp_path / "method.md", "| set |\n")

    monkeypatch.setattr(suite, "benchmark_method", benchmark_method)
    assert main(["benchmark", "run", "--seeds", "2", "--out", str(tmp_path), *words]) == 0
    assert asked == [(names, 2, tmp_path, part, changes)]
    assert capsys.readouterr().out == f"| set |\n\ntable: {tmp_path / 'method.md'}\n"


@pytest.mark.parametrize("library", ["pandas", "tabulate"])
def test_without_its_extra_the_verb_names_it_in_one_line(tmp_path, monkeypatch, capsys, library):
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["benchmark", "run", "faces", "--out", str(tmp_path / "out")]) != 0
    (error,) = capsys.readouterr().err.splitlines()
    assert f"{library} is not installed: pip install 'invdiff[benchmark]'" in error
    assert not (tmp_path / "out").exists()
