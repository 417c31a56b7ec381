"""The suite of the method around its work: what is asked for, shared, skipped and said."""

import csv

import pytest

from invdiff.data.sets import builtin
from invdiff.engine.discovery.estimators import ESTIMATORS
from invdiff.engine.run.folder import STAGES, RunFolder
from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import ConfigError, DataError
from invdiff.studies.benchmarking import rows as rows
from invdiff.studies.benchmarking.method import balanced, found, suite
from invdiff.studies.benchmarking.method.summaries import Result
from invdiff.studies.benchmarking.suites import ORACLE, OURS, ROWS
from tests.engine.made_up import arm, write_run
from tests.tiny_world import COAT, HAT, stamps

FEW = ("semantic", "top_loss", "labels", "none")


@pytest.fixture
def tiny(world, monkeypatch):
    """The set `faces` is the tiny world, its estimators are a few, and all work is done here."""

    def settings(name, row, seed, processes=1, changes=()):
        own = [f"seed={seed}", "data.label_column='colour'", "data.min_images=40"]
        return world.config(*own, *changes)

    def beside_each_other(work, left, done, after_each, title, unit):
        for one in left:
            work(one)
            after_each()

    monkeypatch.setattr(rows, "settings", settings)
    monkeypatch.setattr(rows, "beside_each_other", beside_each_other)
    monkeypatch.setattr(found, "DEFAULT", FEW[0])
    monkeypatch.setattr(found, "NAMES", FEW)


@pytest.fixture
def searched(tiny, tmp_path):
    """All discoveries of a set with one seed, below ``tmp_path / "faces"``."""
    found.run("faces", 1, tmp_path / "faces")
    return tmp_path


def finish_runs(place, seeds, only=balanced.ROWS):
    """Runs of the second table, as if they had been done."""
    for job in balanced.jobs("faces", seeds, place):
        if job.row not in only:
            continue
        run = rows.open_run(job)
        drawn = {"guided": {str(scale): arm(0.1 * scale, 0.6) for scale in rows.SCALES}}
        base = {"base": {str(scale): arm(0.15 * scale, 0.9) for scale in rows.SCALES}}
        write_run(run.path, base | drawn if job.row == OURS else drawn)
        for stage in STAGES[:-1]:
            write_json(run.path / "stages" / f"{stage}.json", {"stage": stage})


# Discovery


def test_every_estimator_is_searched_with_the_default_first():
    assert found.NAMES[0] == found.DEFAULT == "auto"
    assert sorted(found.NAMES) == sorted(ESTIMATORS)
    config = found.settings(found.Search(".", "faces", "labels", 2))
    assert (config.estimator, config.seed) == ("labels", 2)
    default = found.Search(".", "faces", found.DEFAULT, 0)
    assert found.settings(default) == rows.settings("faces", OURS, 0)
    changed = found.settings(default._replace(changes=("train.steps=7",)))
    assert changed.train.steps == 7


def test_discovery_alone_is_done_and_what_it_computed_is_shared(searched):
    runs = {name: found.folder_of(searched / "faces", name, 0) for name in FEW}
    assert runs["labels"] == searched / "faces" / "seed-0" / "found" / "labels"
    for name, path in runs.items():
        own = RunFolder.read(path)
        assert own.config.estimator == name
        assert own.done("discover")
        assert not own.done("train")
    cached = [path.relative_to(runs["semantic"]) for path in runs["semantic"].rglob("*-00000.saf*")]
    assert len(cached) >= 4
    for one in cached:
        assert (runs["labels"] / one).samefile(runs["semantic"] / one)
    assert read_json(searched / "faces" / "found-time.json")["wall_seconds"] > 0


def test_what_is_done_is_left_alone(searched):
    before = stamps(searched)
    found.run("faces", 1, searched / "faces")
    assert stamps(searched) == before


def test_an_interrupted_search_is_the_only_one_to_be_done_again(searched, monkeypatch):
    asked = []
    (found.folder_of(searched / "faces", "labels", 0) / "stages" / "discover.json").unlink()
    monkeypatch.setattr(found, "search", lambda one, processes=1: asked.append(one.estimator))
    found.run("faces", 1, searched / "faces")
    assert asked == ["labels"]


def test_the_default_takes_what_its_row_has_computed_and_the_row_what_the_default_has(
    tiny, tmp_path, monkeypatch
):
    shared = []
    monkeypatch.setattr(rows, "share_cache", lambda source, target: shared.append((source, target)))
    monkeypatch.setattr(rows, "run_rows", lambda left, jobs, after_each: None)
    monkeypatch.setattr(found, "discover", lambda run: None)
    row, default = rows.folder_of(tmp_path, OURS, 0), found.folder_of(tmp_path, found.DEFAULT, 0)
    found.search(found.Search(str(tmp_path), "faces", found.DEFAULT, 0))
    assert shared == [(row, default)]
    balanced.run("faces", 1, tmp_path)
    assert shared[1:] == [(default, row)]
    assert RunFolder.is_run(row), "a cache in a folder that is no run would be refused later"


def test_the_oracle_finds_its_labels_and_nothing_found_is_chance(searched):
    result = suite.read("faces", 1, searched / "faces")
    read = {one.estimator: one for one in result.found}
    assert (set(read), result.labels) == (set(FEW), 2)
    for prompt in (HAT, COAT):
        oracle, none = read["labels"].prompts[prompt], read["none"].prompts[prompt]
        exact = {"auc": 1.0, "balanced_accuracy": 1.0, "adjusted_rand": 1.0}
        assert oracle == {"skewed": True, "found": True} | exact
        assert none == {"skewed": True, "found": False} | found.CHANCE
        assert read["labels"].groups[prompt].sum() == 5
        assert not read["none"].groups[prompt].any()
    assert 0 < read["top_loss"].prompts[COAT]["auc"] < 1


def test_even_prompts_are_no_part_of_the_agreement(searched, monkeypatch):
    known = {key: {HAT: float("nan"), COAT: 0.9} for key in found.CHANCE}
    monkeypatch.setattr(found, "groups_against_labels", lambda run, data: known)
    one = found.Search(str(searched / "faces"), "faces", "labels", 0)
    prompts = found.read(one, None).prompts
    assert prompts[HAT] == {"skewed": False, "found": True} | dict.fromkeys(found.CHANCE)
    assert prompts[COAT] == {"skewed": True, "found": True} | dict.fromkeys(found.CHANCE, 0.9)


# Runs


def test_the_rows_are_runs_of_the_other_suites(tmp_path):
    jobs = balanced.jobs("faces", 2, tmp_path)
    assert {(job.row, job.seed) for job in jobs} == {(r, s) for r in balanced.ROWS for s in (0, 1)}
    assert {OURS, ORACLE} < set(balanced.ROWS) < set(ROWS)
    for job in jobs[::2]:
        drawn = rows.open_run(job).config
        assert drawn.sample.guidance_scales == list(rows.SCALES) == [1.0, 2.5, 5.0]
        assert drawn == rows.settings("faces", job.row, job.seed)


def test_only_the_runs_that_are_left_are_done(tmp_path, monkeypatch):
    finish_runs(tmp_path, 1, set(balanced.ROWS) - {ORACLE})
    asked = []
    monkeypatch.setattr(rows, "run_rows", lambda left, jobs, after_each: asked.extend(left))
    balanced.run("faces", 1, tmp_path)
    assert [job.row for job in asked] == [ORACLE]
    finish_runs(tmp_path, 1)
    before = stamps(tmp_path)
    balanced.run("faces", 1, tmp_path)
    assert (len(asked), stamps(tmp_path)) == (1, before)


# Sets and parts


@pytest.fixture
def worked(monkeypatch):
    """What is asked for, in its order; two sets are there, and nothing is done."""
    asked = []
    there = {"faces", "scenes"}

    def noted(part):
        return lambda *of: asked.append((part, *of))

    monkeypatch.setattr(suite, "PARTS", {part: noted(part) for part in suite.PARTS})
    monkeypatch.setattr(suite, "here", lambda name: name in there)
    monkeypatch.setattr(builtin, "require", lambda name: there.add(name))
    return asked


def test_without_names_every_set_that_is_there_and_the_cheap_part_first(worked, tmp_path, capsys):
    table = suite.benchmark([], 2, tmp_path)
    assert table == tmp_path / "method.md"
    expected = [(p, s) for p in ("found", "balanced") for s in ("faces", "scenes")]
    assert worked == [(part, name, 2, tmp_path / name, ()) for part, name in expected]
    told = "not built, left out: faces-balanced, faces-marginal, faces-named, faces-race, digits "
    assert capsys.readouterr().out == f"{told}(invdiff data build NAME)\n"
    assert "Not built, so not here: faces-balanced, faces-marginal" in table.read_text()


def test_named_sets_and_one_part(worked, tmp_path, capsys):
    suite.benchmark(["scenes", "scenes"], 1, tmp_path, "found")
    assert worked == [("found", "scenes", 1, tmp_path / "scenes", ())]
    assert capsys.readouterr().out == ""
    missing = read_json(tmp_path / "method.json")["missing"]
    assert [(one["part"], one["set"], one["of"]) for one in missing] == [
        ("found", "scenes", len(ESTIMATORS))
    ]
    assert missing[0]["names"][0] == "auto, seed 0"


def test_changed_settings_reach_the_work(worked, tmp_path):
    few = ["sample.images_per_prompt=7"]
    suite.benchmark(["faces"], 1, tmp_path, "balanced", few)
    assert worked == [("balanced", "faces", 1, tmp_path / "faces", few)]


def test_settings_that_are_not_the_suites_own_are_told_with_their_set_and_part(
    tiny, tmp_path, monkeypatch
):
    """They are read off the runs; what was merely asked for is not told."""
    few = ("discover.images_per_prompt=44",)
    found.run("faces", 1, tmp_path / "faces", few)
    monkeypatch.setattr(suite, "sets", lambda names, seeds: ["faces"])
    monkeypatch.setattr(suite, "PARTS", {"found": lambda *_: None})
    suite.benchmark(["faces"], 1, tmp_path, "found", ["sample.images_per_prompt=7"])
    told = read_json(tmp_path / "method.json")["changes"]["faces"]
    assert told == {"found": ["discover.images_per_prompt=44"]}
    text = (tmp_path / "method.md").read_text()
    assert "With the settings `--discover.images_per_prompt=44` (faces, found)." in text


@pytest.mark.parametrize("change", ["seed=3", "study.estimator='none'", "data.path='x'"])
def test_settings_that_the_suite_has_itself_are_refused(worked, tmp_path, change):
    with pytest.raises(ConfigError, match="its own; leave it out"):
        suite.benchmark(["faces"], 1, tmp_path / "out", None, [change])
    assert not worked


@pytest.mark.parametrize(
    ("names", "seeds", "part", "words"),
    [
        (["cats"], 1, None, "no benchmark 'cats'"),
        ([], 0, None, "--seeds is 0"),
        ([], 1, "lost", "no part 'lost': one of found, balanced"),
    ],
)
def test_what_there_is_not_is_refused_before_any_work(worked, tmp_path, names, seeds, part, words):
    with pytest.raises(ConfigError, match=words):
        suite.benchmark(names, seeds, tmp_path / "out", part)
    assert not (tmp_path / "out").exists()
    assert not worked


def test_a_named_set_that_is_not_built_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(builtin.HOME, str(tmp_path / "nothing"))
    monkeypatch.setattr(suite, "PARTS", {})
    with pytest.raises(DataError, match="make it with `invdiff data build scenes`"):
        suite.benchmark(["faces", "scenes"], 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sets_of_earlier_calls_stay_in_the_tables(worked, tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "read", lambda name, seeds, place: Result(name, 0, (), ()))
    (tmp_path / "faces").mkdir()
    (tmp_path / "digits").mkdir()  # not built any more: its labels cannot be read
    suite.benchmark(["scenes"], 1, tmp_path)
    assert read_json(tmp_path / "method.json")["sets"] == ["faces", "scenes"]
    assert {name for _, name, *_ in worked} == {"scenes"}


def test_an_interrupted_suite_leaves_tables_that_say_what_is_missing(searched, monkeypatch, world):
    finish_runs(searched / "faces", 2, {OURS})

    def interrupted(name, seeds, place, changes):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "PARTS", suite.PARTS | {"balanced": interrupted})
    write = suite.write_up
    monkeypatch.setattr(suite, "write_up", lambda *of: written.append(write(*of)) or written[-1])
    written = []
    with pytest.raises(KeyboardInterrupt):
        suite.benchmark(["faces"], 2, searched)
    text = (searched / "method.md").read_text()
    assert len(written) == 2, "before the work, and after the discoveries"
    record = read_json(searched / "method.json")
    assert set(record["wall_seconds"]["faces"]) == {"found"}
    missing = {one["part"]: one["names"] for one in record["missing"]}
    left = [f"{row}, seed {seed}" for row in balanced.ROWS for seed in (0, 1) if row != OURS]
    assert missing == {"balanced": left}
    assert "**Not made yet** (the same command goes on): faces, balanced: 6 of 8." in text
    with (searched / "method.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert {line["name"] for line in lines} == {*FEW, "base", OURS}
