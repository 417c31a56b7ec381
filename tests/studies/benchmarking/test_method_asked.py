"""What the suite of the method is asked for: sets, parts and changed settings, or why not."""

import pytest

from invdiff.data.sets import builtin
from invdiff.engine.discovery.estimators import ESTIMATORS
from invdiff.engine.storage.files import read_json
from invdiff.errors import ConfigError, DataError
from invdiff.studies.benchmarking import method_suite as suite


@pytest.fixture
def worked(monkeypatch):
    """What is asked for, in its order; two sets are there, and nothing is done."""
    asked = []
    there = {"faces", "scenes"}

    monkeypatch.setattr(suite, "do_part", lambda *of: asked.append(of))
    monkeypatch.setattr(suite, "is_built", lambda name: name in there)
    monkeypatch.setattr(builtin, "require_built", lambda name: there.add(name))
    return asked


def test_without_names_every_set_that_is_there_and_the_cheap_part_first(worked, tmp_path, capsys):
    table = suite.benchmark_method([], 2, tmp_path)
    assert table == tmp_path / "method.md"
    expected = [(p, s) for p in ("found", "balanced") for s in ("faces", "scenes")]
    assert worked == [(part, name, 2, tmp_path / name, ()) for part, name in expected]
    unbuilt = "faces-balanced, faces-marginal, faces-named, faces-race, faces-several, digits"
    told = f"not built, left out: {unbuilt} (invdiff data build NAME)\n"
    assert capsys.readouterr().out == told
    assert "Not built, so not here: faces-balanced, faces-marginal" in table.read_text()


def test_named_sets_and_one_part(worked, tmp_path, capsys):
    suite.benchmark_method(["scenes", "scenes"], 1, tmp_path, "found")
    assert worked == [("found", "scenes", 1, tmp_path / "scenes", ())]
    assert capsys.readouterr().out == ""
    missing = read_json(tmp_path / "method.json")["missing"]
    assert [(one["part"], one["set"], one["of"]) for one in missing] == [
        ("found", "scenes", len(ESTIMATORS))
    ]
    assert missing[0]["names"][0] == "auto, seed 0"


def test_changed_settings_reach_the_work(worked, tmp_path):
    few = ["sample.images_per_prompt=7"]
    suite.benchmark_method(["faces"], 1, tmp_path, "balanced", few)
    assert worked == [("balanced", "faces", 1, tmp_path / "faces", few)]


@pytest.mark.parametrize("change", ["seed=3", "study.estimator='none'", "data.path='x'"])
def test_settings_that_the_suite_has_itself_are_refused(worked, tmp_path, change):
    with pytest.raises(ConfigError, match="its own; leave it out"):
        suite.benchmark_method(["faces"], 1, tmp_path / "out", None, [change])
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
        suite.benchmark_method(names, seeds, tmp_path / "out", part)
    assert not (tmp_path / "out").exists()
    assert not worked


def test_a_named_set_that_is_not_built_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(builtin.HOME, str(tmp_path / "nothing"))
    monkeypatch.setattr(suite, "do_part", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(DataError, match="make it with `invdiff data build scenes`"):
        suite.benchmark_method(["faces", "scenes"], 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sets_of_earlier_calls_stay_in_the_tables(worked, tmp_path):
    (tmp_path / "faces").mkdir()
    (tmp_path / "digits").mkdir()  # not built any more: its labels cannot be read
    suite.benchmark_method(["scenes"], 1, tmp_path)
    assert read_json(tmp_path / "method.json")["sets"] == ["faces", "scenes"]
    assert {name for _, name, *_ in worked} == {"scenes"}
