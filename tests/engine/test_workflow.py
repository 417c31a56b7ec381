"""Stages in their order: each once, with a session that opens the pictures once."""

import sys
from types import SimpleNamespace

import pytest

from invdiff.engine.run.folder import RunFolder
from invdiff.engine.storage.files import read_json
from invdiff.engine.workflow import do_stage, session_of
from invdiff.errors import RunError


@pytest.fixture
def stub(monkeypatch):
    """A stage that says which sessions it got."""
    seen = []
    work = SimpleNamespace(discover=lambda session: seen.append(session) or {"found": ["a hat"]})
    monkeypatch.setitem(sys.modules, "stub", work)
    return seen


def test_a_stage_is_done_once_and_its_facts_are_kept(tmp_path, stub):
    run = RunFolder.open(tmp_path / "run")
    for _ in range(2):
        do_stage(run, "discover", ("stub", "discover"))
    assert [session.path for session in stub] == [run.path]
    assert read_json(run.path / "stages" / "discover.json")["found"] == ["a hat"]


def test_a_stage_needs_the_one_before(tmp_path):
    with pytest.raises(RunError, match="train needs discover"):
        do_stage(RunFolder.open(tmp_path / "run"), "train")


def test_a_session_opens_the_pictures_once(tmp_path, monkeypatch):
    opened = []
    samples = SimpleNamespace(quarantined=(("a.png", "cut off"),))
    monkeypatch.setattr(
        "invdiff.engine.encoding.session.open_data", lambda *_: opened.append(1) or samples
    )
    run = RunFolder.open(tmp_path / "run")
    run.config = run.config.model_copy(
        update={"data": run.config.data.model_copy(update={"image_size": 32})}
    )
    session = session_of(run)
    assert session.samples is session.samples is samples
    assert opened == [1]
    assert read_json(run.path / "quarantine.json") == [["a.png", "cut off"]]
