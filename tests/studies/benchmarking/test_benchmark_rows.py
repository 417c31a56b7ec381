"""The benchmark around its runs: what it refuses, skips, shares and keeps."""

import os

import pytest

from invdiff.engine.run.folder import STAGES, RunFolder
from invdiff.engine.settings import config as configuration
from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import ConfigError, RunError
from invdiff.studies.benchmarking import jobs, rows
from invdiff.studies.benchmarking.suites import ABLATED, ORACLE, OURS, ROWS, SUFFIX, SUITES
from tests.engine.made_up import arm, ours, write_run

CONTROLS = SUITES["controls"]
TABLES = ("table.md", "table.csv", "summary.json")
READ = {"text": ", diverse", "words": 1, "known": 0, "prompts": 4, "cut": 0}


def finish(out, seeds, stages=STAGES[:-1], rows=CONTROLS):
    """Every run of the benchmark, as if it had been done."""
    for row in rows:
        for seed in range(seeds):
            run = jobs.Job(str(out), "faces", row, seed).open()
            drawn = {ROWS[row].arm: {"1.0": arm(0.3, 0.7), "2.5": arm(0.4, 0.8)}}
            write_run(run.path, ours() if row == OURS else drawn)
            for stage in stages:
                facts = {"stage": stage} | ({"prompt_suffix": READ} if row == SUFFIX else {})
                write_json(run.path / "stages" / f"{stage}.json", facts)


def test_unknown_names_are_answered_with_the_known(tmp_path):
    with pytest.raises(ConfigError, match="there is no benchmark 'cats': one of digits, faces, "):
        rows.benchmark_rows("cats", 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seeds", [0, -1])
def test_at_least_one_seed(tmp_path, seeds):
    with pytest.raises(ConfigError, match=f"--seeds is {seeds}: at least 1"):
        rows.benchmark_rows("faces", seeds, tmp_path / "out")


def test_only_the_estimator_tells_the_oracle_from_the_method():
    method, oracle = (
        jobs.row_settings("faces", row, 3).model_dump() for row in (OURS, "label oracle")
    )
    assert method["seed"] == 3
    changed = {(s, k) for s in method if isinstance(method[s], dict) for k in method[s]}
    changed = {(s, k) for s, k in changed if method[s][k] != oracle[s][k]}
    assert changed == {("discover", "estimator"), ("study", "arms")}


@pytest.mark.parametrize(("name", "images"), [("faces", 200), ("digits", 80)])
def test_a_benchmark_draws_as_many_pictures_as_the_preset_at_its_own_scales(name, images):
    section = jobs.row_settings(name, OURS, 0).sample
    assert section.images_per_prompt == images
    assert tuple(section.guidance_scales) == jobs.SCALES


def test_rows_have_folders_of_their_own(tmp_path):
    folders = {
        jobs.Job(str(tmp_path), "faces", row, seed).folder for row in ROWS for seed in range(3)
    }
    assert len(folders) == len(ROWS) * 3
    assert all(" " not in folder.name for folder in folders)


def test_what_is_done_is_only_written_up(tmp_path, capfd):
    finish(tmp_path, 2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("events.jsonl")}
    assert rows.benchmark_rows("faces", 2, tmp_path) == tmp_path / "table.md"
    assert "label oracle" in (tmp_path / "table.md").read_text()
    assert "rows" not in capfd.readouterr().err, "no work, no bar"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (tmp_path / "benchmark.json").exists()
    names = {row["row"] for row in read_json(tmp_path / "summary.json")["rows"]}
    assert names == {"base", *CONTROLS}
    for seed in range(2):
        beside = read_json(jobs.Job(str(tmp_path), "faces", OURS, seed).folder / "comparison.json")
        assert len(beside["rows"]) == 2 * (1 + len(CONTROLS))


def test_only_what_is_left_is_run(tmp_path, monkeypatch):
    finish(tmp_path, 2)
    redone = jobs.Job(str(tmp_path), "faces", "no groups", 1).open()
    (redone.path / "stages" / "evaluate.json").unlink()
    asked = []

    def do_jobs(every, after_each, title):
        after_each()
        asked.extend((job.row, job.seed) for job in every if not job.is_done())

    monkeypatch.setattr(jobs, "do_jobs", do_jobs)
    rows.benchmark_rows("faces", 2, tmp_path)
    assert asked == [("no groups", 1)]
    assert "wall_seconds" in read_json(tmp_path / "summary.json")


def test_a_run_with_other_settings_is_refused(tmp_path):
    folder = jobs.Job(str(tmp_path), "faces", OURS, 0).folder
    other = jobs.row_settings("faces", OURS, seed=5)
    with RunFolder.open(folder, other).stage("discover"):
        pass
    with pytest.raises(RunError, match=r"with other settings: seed \(5 -> 0\)"):
        rows.benchmark_rows("faces", 1, tmp_path)


@pytest.mark.parametrize("links", [True, False])
def test_a_cache_is_shared_not_made_again(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError()))
    source, target = tmp_path / "a", tmp_path / "b"
    for name, text in [("x/latents-00000", "first"), ("x/scores-00000", "theirs"), (".x/h", "-")]:
        path = source / "cache" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (source / "cache/x/.half-12.safetensors").write_text("half")
    (source / "group_model.safetensors").write_text("of its own groups")
    (target / "cache/x").mkdir(parents=True)
    (target / "cache/x/scores-00000.safetensors").write_text("own")
    for _ in range(2):
        jobs.share_cache(source, target)
    shared = target / "cache/x/latents-00000.safetensors"
    assert shared.read_text() == "first"
    assert shared.samefile(source / "cache/x/latents-00000.safetensors") is links
    assert (target / "cache/x/scores-00000.safetensors").read_text() == "own"
    assert not (target / "cache/x/.half-12.safetensors").exists()
    assert not (target / "group_model.safetensors").exists()


def test_there_may_be_nothing_to_share(tmp_path):
    jobs.share_cache(tmp_path / "a", tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_time_adds_up_over_sessions_and_survives_an_interruption(tmp_path, monkeypatch):
    clock = iter([100.0, 110.0, 140.0, 500.0, 502.0])
    monkeypatch.setattr(jobs.time, "monotonic", lambda: next(clock))
    path = tmp_path / "benchmark.json"

    def interrupted():
        with jobs.timed(path) as keep:
            keep()
            assert read_json(path)["wall_seconds"] == 10
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_json(path)["wall_seconds"] == 40
    with jobs.timed(path):
        pass
    assert read_json(path)["wall_seconds"] == 42


# Suites


def changed(first, second):
    """The settings in which two rows differ."""
    one, other = (
        configuration.flatten(jobs.row_settings("faces", row, 0)) for row in (first, second)
    )
    return {key for key in one if one[key] != other[key]}


def test_unknown_suites_are_answered_with_the_known(tmp_path):
    with pytest.raises(ConfigError, match="no suite 'all': one of controls, baselines, ablation, "):
        rows.benchmark_rows("faces", 1, tmp_path / "out", "all")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_has_the_method_to_compare_with(suite):
    assert OURS in SUITES[suite]
    assert set(SUITES[suite]) <= set(ROWS)


def test_the_balanced_fine_tune_is_the_oracle_under_the_plain_mean_loss():
    assert changed("balanced fine-tune", ORACLE) == {
        "calibrate.strengths",
        "sample.strength",
        "train.share_feedback",
        "train.variance_weight",
        "study.target",
    }
    config = jobs.row_settings("faces", "balanced fine-tune", 0)
    assert (config.train.variance_weight, config.train.share_feedback) == (0, [])
    assert (config.estimator, config.study.target) == ("labels", "sample")


def test_the_top_loss_differs_in_its_groups_alone():
    assert changed("top loss", ORACLE) == {"discover.estimator", "study.estimator"}


def test_the_row_with_a_suffix_draws_the_base_alone():
    suffixed = jobs.row_settings("faces", SUFFIX, 0)
    assert (suffixed.sample.prompt_suffix, suffixed.study.arms) == (", diverse", ["base"])
    assert suffixed.train.steps == 0
    others = {
        jobs.row_settings("faces", row, 0).sample.prompt_suffix for row in set(ROWS) - {SUFFIX}
    }
    assert others == {""}


def test_a_second_suite_takes_the_rows_that_are_there(tmp_path, monkeypatch):
    finish(tmp_path, 2)
    rows.benchmark_rows("faces", 2, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in TABLES}
    asked = []

    def do_jobs(every, after_each, title):
        after_each()
        left = [job for job in every if not job.is_done()]
        asked.extend(left)
        finish(tmp_path, 2, rows={job.row for job in left})

    monkeypatch.setattr(jobs, "do_jobs", do_jobs)
    table = rows.benchmark_rows("faces", 2, tmp_path, "baselines")
    new = set(SUITES["baselines"]) - set(CONTROLS)
    assert {(job.row, job.seed) for job in asked} == {(r, s) for r in new for s in (0, 1)}
    assert table == tmp_path / "baselines" / "table.md"
    assert {name: (tmp_path / name).read_bytes() for name in TABLES} == before
    assert not (tmp_path / "benchmark.json").exists()
    names = {row["row"] for row in read_json(table.with_name("summary.json"))["rows"]}
    assert names == {"base", *SUITES["baselines"]}


def test_older_runs_without_the_new_settings_are_taken(tmp_path):
    run = jobs.Job(str(tmp_path), "faces", OURS, 0).open()
    with run.stage("discover"):
        pass
    text = (run.path / "config.toml").read_text()
    old = text.replace('prompt_suffix = ""\n', "")
    assert "prompt_suffix" not in old
    run.seals.write_settings(old.rpartition("# ")[0])
    again = jobs.Job(str(tmp_path), "faces", OURS, 0).open()
    assert again.done("discover")


# The ablation


def test_each_row_of_the_ablation_changes_one_setting():
    for row, change in ABLATED.items():
        assert changed(row, OURS) == {change.partition("=")[0], "study.arms"}, row


def test_some_rows_are_run_and_what_else_is_done_is_shown(tmp_path, monkeypatch):
    finish(tmp_path, 1, rows=(OURS, "rank 4"))
    finish(tmp_path, 1, rows=("rank 16",), stages=("discover",))
    asked = []

    def do_jobs(every, after_each, title):
        asked.extend((job.row, job.seed) for job in every if not job.is_done())
        finish(tmp_path, 1, rows={row for row, _ in asked})

    monkeypatch.setattr(jobs, "do_jobs", do_jobs)
    table = rows.benchmark_rows("faces", 1, tmp_path, "ablation", ["lambda-0"])
    assert asked == [("lambda 0", 0)]
    names = {row["row"] for row in read_json(table.with_name("summary.json"))["rows"]}
    assert names == {"base", OURS, "rank 4", "lambda 0"}
    assert "--suite ablation --rows inferred-groups lambda-0 rank-4 --seeds 1" in table.read_text()
    assert "- *rank 4*: the default recipe with `train.rank=4`." in table.read_text()


def test_settings_of_all_rows_give_way_to_that_of_the_row(tmp_path):
    given = ("train.rank=2", "train.steps=7", "sample.images_per_prompt=3")
    own, rank = (jobs.row_settings("faces", row, 0, changes=given) for row in (OURS, "rank 4"))
    assert (own.train.rank, rank.train.rank) == (2, 4)
    assert {c.train.steps for c in (own, rank)} == {7}
    assert {c.sample.images_per_prompt for c in (own, rank)} == {3}
    runs = [jobs.Job(str(tmp_path), "faces", "rank 4", 0, c) for c in (given, ())]
    runs[0].open()
    finish_stages = jobs.Job(str(tmp_path), "faces", "rank 4", 0).folder / "stages"
    for stage in STAGES:
        write_json(finish_stages / f"{stage}.json", {"stage": stage})
    assert [run.is_done(same=True) for run in runs] == [True, False]


@pytest.mark.parametrize(
    ("some", "changes", "told"),
    [
        (["rank-5"], [], "there is no row 'rank-5': some of inferred-groups, plain-memberships, "),
        ([], ["train.stepz=3"], "no such setting; did you mean --train.steps"),
        ([], ["seed=3"], "--seed: a benchmark has its own"),
    ],
)
def test_rows_and_settings_that_are_none_are_refused_before_the_work(tmp_path, some, changes, told):
    with pytest.raises(ConfigError, match=told):
        rows.benchmark_rows("faces", 1, tmp_path / "out", "ablation", some, changes)
    assert not (tmp_path / "out").exists()
