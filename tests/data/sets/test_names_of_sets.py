"""One name, one thing: a built-in set and a folder of the same name are never taken for another."""

from pathlib import Path

import pytest

from invdiff.app.api import _settings
from invdiff.app.cli.two_folders import is_pipeline
from invdiff.data.audit import audit
from invdiff.data.gallery import open_gallery, open_labelled
from invdiff.data.sets.builtin import resolve_name
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings import schema
from invdiff.errors import ConfigError, DataError
from tests.data import tiny_sources as tiny

BOTH = r"faces is a built-in set and a folder here: give builtin:faces for the set, ./faces for the"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own with the name of a set."""
    tiny.folder_with_metadata(tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def from_file(here: Path, text: str) -> str:
    (here / "mine.toml").write_text(f'[data]\npath = "{text}"\n')
    return configuration.load(here / "mine.toml").data.path


def run_with(here: Path, config: object, preset: str | None = None, data: str | None = None) -> str:
    return _settings(here / "run", config, preset, data).data.path


DOORS = {
    "data check": lambda here, text: str(audit(text).pictures),
    "gallery": lambda here, text: str(len(open_gallery(text, size=8))),
    "classifier": lambda here, text: str(len(open_labelled(text, "gender", 8).labels)),
    "override": lambda here, text: configuration.load(None, [f"data.path={text}"]).data.path,
    "model": lambda here, text: configuration.load(None, [f"model.path={text}"]).model.path,
    "file": from_file,
    "settings": lambda here, text: run_with(here, {"data": {"path": text}}, "faces"),
    "data": lambda here, text: run_with(here, schema.Config(), data=text),
}
FOLDER = {"data check": "3", "gallery": "3", "classifier": "3"}
SET = {"data check": "8000", "gallery": "8000", "classifier": "8000"}


@pytest.mark.parametrize("door", DOORS)
def test_a_name_that_means_two_things_is_refused_at_every_door(here: Path, door: str) -> None:
    with pytest.raises((DataError, ConfigError), match=BOTH) as caught:
        DOORS[door](here, "faces")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("door", ["classifier", "override", "model", "file", "settings", "data"])
def test_both_can_be_named(here: Path, door: str) -> None:
    assert DOORS[door](here, "./faces") == FOLDER.get(door, "./faces")
    assert DOORS[door](here, "builtin:faces") == SET.get(door, "faces")


def test_a_pipeline_is_no_exception(here: Path) -> None:
    with pytest.raises(DataError, match=BOTH):
        is_pipeline("faces")
    assert is_pipeline("builtin:faces")
    assert not is_pipeline("./faces")


def test_a_path_object_is_a_place(here: Path) -> None:
    assert resolve_name(Path("faces")) == "./faces"
    assert audit(Path("faces")).pictures == 3


def test_without_a_folder_the_name_is_enough(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_name("faces") == resolve_name("builtin:faces") == "faces"
    assert resolve_name("portraits") == "portraits"
    with pytest.raises(DataError, match=r"builtin:fases: there is no such set; there are: faces,"):
        resolve_name("builtin:fases")


def test_what_a_run_has_stored_does_not_change_its_meaning(here: Path) -> None:
    kept = here / "config.toml"
    kept.write_text(configuration.dump(configuration.preset("faces")))
    assert configuration.load_run(kept).data.path == "faces"
