"""The suite of the method around its work: what is asked for, shared, skipped and said."""

import csv
import os
import shutil

import pytest

from invdiff.engine.discovery.estimators import ESTIMATORS
from invdiff.engine.run.folder import STAGES, RunFolder
from invdiff.engine.storage.files import read_json, write_json
from invdiff.studies.benchmarking import jobs
from invdiff.studies.benchmarking import method_suite as suite
from invdiff.studies.benchmarking import method_tables as tables
from invdiff.studies.benchmarking.page import where
from invdiff.studies.benchmarking.suites import ORACLE, OURS, ROWS
from tests.engine.made_up import arm, write_run
from tests.tiny_world import COAT, HAT, stamps

FEW = ("top_loss", "random", "labels", "none")


def in_the_tiny_world(world, monkeypatch):
    """The set `faces` is the tiny world, its estimators are a few, and all work is done here."""

    def settings(name, row, seed, processes=1, changes=()):
        own = [f"seed={seed}", "data.label_column='colour'", "data.min_images=40"]
        return world.config(*own, *changes)

    def beside_each_other(work, left, done, after_each, title, unit):
        for one in left:
            work(one)
            after_each()

    monkeypatch.setattr(jobs, "row_settings", settings)
    monkeypatch.setattr(jobs, "beside_each_other", beside_each_other)
    monkeypatch.setattr(jobs, "DEFAULT", FEW[0])
    monkeypatch.setattr(tables, "NAMES", FEW)


@pytest.fixture
def tiny(world, monkeypatch):
    in_the_tiny_world(world, monkeypatch)


def search_job(place, estimator, seed=0, **more):
    return jobs.Job(str(place), "faces", OURS, seed, estimator=estimator, **more)


def run_job(place, row, seed=0):
    return jobs.Job(str(place), "faces", row, seed)


@pytest.fixture(scope="module")
def original(world, tmp_path_factory):
    place = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        in_the_tiny_world(world, patch)
        suite.do_part("found", "faces", 1, place / "faces")
    return place


@pytest.fixture
def searched(tiny, original, tmp_path):
    """All discoveries of a set with one seed, below ``tmp_path / "faces"``; the cache is linked."""

    def copy(source, target):
        return (os.link if source.endswith(".safetensors") else shutil.copy2)(source, target)

    return shutil.copytree(original, tmp_path, dirs_exist_ok=True, copy_function=copy)


def finish_runs(place, seeds, only=tables.ROWS):
    """Runs of the second table, as if they had been done."""
    for job in suite.jobs_of("balanced", "faces", seeds, place):
        if job.row not in only:
            continue
        run = job.open()
        drawn = {"guided": {str(scale): arm(0.1 * scale, 0.6) for scale in jobs.SCALES}}
        base = {"base": {str(scale): arm(0.15 * scale, 0.9) for scale in jobs.SCALES}}
        write_run(run.path, base | drawn if job.row == OURS else drawn)
        for stage in STAGES[:-1]:
            write_json(run.path / "stages" / f"{stage}.json", {"stage": stage})


# Discovery


def test_every_estimator_is_searched_with_the_default_first():
    assert tables.NAMES[0] == jobs.DEFAULT == "auto"
    assert sorted(tables.NAMES) == sorted(ESTIMATORS)
    config = search_job(".", "labels", 2).config()
    assert (config.estimator, config.seed) == ("labels", 2)
    assert search_job(".", jobs.DEFAULT).config() == jobs.row_settings("faces", OURS, 0)
    changed = search_job(".", jobs.DEFAULT, changes=("train.steps=7",))
    assert changed.config().train.steps == 7


def test_discovery_alone_is_done_and_what_it_computed_is_shared(searched):
    runs = {name: search_job(searched / "faces", name).folder for name in FEW}
    assert runs["labels"] == searched / "faces" / "seed-0" / "found" / "labels"
    for name, path in runs.items():
        own = RunFolder.read(path)
        assert own.config.estimator == name
        assert own.done("discover")
        assert not own.done("train")
    cached = [path.relative_to(runs["top_loss"]) for path in runs["top_loss"].rglob("*-00000.saf*")]
    assert len(cached) >= 3
    for one in cached:
        assert (runs["labels"] / one).samefile(runs["top_loss"] / one)
    assert read_json(searched / "faces" / "found-time.json")["wall_seconds"] > 0


def test_what_is_done_is_left_alone(searched):
    before = stamps(searched)
    suite.do_part("found", "faces", 1, searched / "faces")
    assert stamps(searched) == before


def test_an_interrupted_search_is_the_only_one_to_be_done_again(searched, monkeypatch):
    asked = []
    (search_job(searched / "faces", "labels").folder / "stages" / "discover.json").unlink()
    monkeypatch.setattr(jobs, "do_job", lambda job: asked.append(job.estimator))
    suite.do_part("found", "faces", 1, searched / "faces")
    assert asked == ["labels"]


def test_the_default_takes_what_its_row_has_computed_and_the_row_what_the_default_has(
    tiny, tmp_path, monkeypatch
):
    shared = []
    row, default = run_job(tmp_path, OURS), search_job(tmp_path, jobs.DEFAULT)
    other, search = run_job(tmp_path, ORACLE), search_job(tmp_path, "labels")
    sources = [job.cache_source() for job in (row, default, other, search)]
    assert sources == [default.folder, row.folder, row.folder, default.folder]
    monkeypatch.setattr(jobs, "share_cache", lambda source, target: shared.append((source, target)))
    monkeypatch.setattr(jobs, "do_stage", lambda run, stage: None)
    monkeypatch.setattr(jobs, "beside_each_other", lambda *_: None)
    suite.do_part("balanced", "faces", 1, tmp_path)
    assert shared == [(default.folder, row.folder)]
    assert RunFolder.is_run(row.folder), "a cache in a folder that is no run is refused later"


def test_the_oracle_finds_its_labels_and_nothing_found_is_chance(searched):
    found = suite.read_set("faces", 1, searched / "faces")
    assert set(found["row"]) == set(FEW)
    assert "adjusted_rand" not in set(found["metric"]), "of two labels it tells nothing more"
    for prompt in (HAT, COAT):
        own = where(found, prompt=prompt)
        oracle, none = (where(own, row=row).set_index("metric")["value"] for row in FEW[2:])
        assert oracle.to_dict() == {"found": 1, "auc": 1.0, "balanced_accuracy": 1.0}
        assert none.to_dict() == {"found": 0, "auc": 0.5, "balanced_accuracy": 0.5}
    assert 0 < where(found, row="top_loss", prompt=COAT, metric="auc").value.item() < 1


def test_even_prompts_are_no_part_of_the_agreement():
    known = {key: {HAT: float("nan"), COAT: 0.9} for key in tables.CHANCE}
    lines = list(tables.agreement_lines({HAT: True, COAT: True}, known))
    assert {tuple(line.values()) for line in lines} == {
        (HAT, "found_in_even", 1),
        (COAT, "found", 1),
        *((COAT, metric, 0.9) for metric in tables.CHANCE),
    }


# Runs


def test_the_rows_are_runs_of_the_other_suites(tmp_path):
    every = suite.jobs_of("balanced", "faces", 2, tmp_path)
    assert {(job.row, job.seed) for job in every} == {(r, s) for r in tables.ROWS for s in (0, 1)}
    assert {OURS, ORACLE} < set(tables.ROWS) < set(ROWS)
    for job in every[::2]:
        drawn = job.open().config
        assert drawn.sample.guidance_scales == list(jobs.SCALES) == [1.0, 2.5, 5.0]
        assert drawn == jobs.row_settings("faces", job.row, job.seed)


def test_only_the_runs_that_are_left_are_done(tmp_path, monkeypatch):
    finish_runs(tmp_path, 1, set(tables.ROWS) - {ORACLE})
    asked = []
    monkeypatch.setattr(jobs, "beside_each_other", lambda work, left, *_: asked.extend(left))
    suite.do_part("balanced", "faces", 1, tmp_path)
    assert [job.row for job in asked] == [ORACLE]
    finish_runs(tmp_path, 1)
    before = stamps(tmp_path)
    suite.do_part("balanced", "faces", 1, tmp_path)
    assert (len(asked), stamps(tmp_path)) == (1, before)


def test_settings_that_are_not_the_suites_own_are_told_with_their_set_and_part(
    tiny, tmp_path, monkeypatch
):
    """They are read off the runs; what was merely asked for is not told."""
    few = ("discover.images_per_prompt=44",)
    suite.do_part("found", "faces", 1, tmp_path / "faces", few)
    monkeypatch.setattr(suite, "asked_sets", lambda names, seeds: ["faces"])
    monkeypatch.setattr(suite, "do_part", lambda *_: None)
    suite.benchmark_method(["faces"], 1, tmp_path, "found", ["sample.images_per_prompt=7"])
    told = read_json(tmp_path / "method.json")["changes"]["faces"]
    assert told == {"found": ["discover.images_per_prompt=44"]}
    text = (tmp_path / "method.md").read_text()
    assert "With the settings `--discover.images_per_prompt=44` (faces, found)." in text


def test_an_interrupted_suite_leaves_tables_that_say_what_is_missing(searched, monkeypatch, world):
    finish_runs(searched / "faces", 2, {OURS})

    do_part = suite.do_part

    def interrupted(part, *of):
        if part == "balanced":
            raise KeyboardInterrupt
        do_part(part, *of)

    monkeypatch.setattr(suite, "do_part", interrupted)
    write = suite.write_up
    monkeypatch.setattr(suite, "write_up", lambda *of: written.append(write(*of)) or written[-1])
    written = []
    with pytest.raises(KeyboardInterrupt):
        suite.benchmark_method(["faces"], 2, searched)
    text = (searched / "method.md").read_text()
    assert len(written) == 2, "before the work, and after the discoveries"
    record = read_json(searched / "method.json")
    assert set(record["wall_seconds"]["faces"]) == {"found"}
    missing = {one["part"]: one["names"] for one in record["missing"]}
    left = [f"{row}, seed {seed}" for row in tables.ROWS for seed in (0, 1) if row != OURS]
    assert missing == {"balanced": left}
    assert "**Not made yet** (the same command goes on): faces, balanced: 6 of 8." in text
    with (searched / "method.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert {line["row"] for line in lines} == {*FEW, "base", OURS}
