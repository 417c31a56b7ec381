"""`invdiff data build`, as typed."""

from dataclasses import replace

import pytest

from invdiff.app.cli import main
from invdiff.data.sets import builtin
from invdiff.data.sets.drawn import digits
from invdiff.engine.fitting.simple_loop import Recipe
from invdiff.studies.toy_models import sets

TINY = Recipe(
    batch=4, autoencoder_channels=(8, 8, 8), autoencoder_steps=1, text_width=16, text_layers=1,
    denoiser_channels=(16, 16), denoiser_steps=1, classifier_steps=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _tiny(tmp_path, monkeypatch):
    monkeypatch.setenv(builtin.HOME, str(tmp_path / "cache"))
    monkeypatch.setitem(sets.DRAWS, "digits", lambda _: digits.draw({"train": 4, "balanced": 4}))
    monkeypatch.setitem(sets.RECIPES, "digits", replace(TINY))


def test_it_says_what_was_made_and_what_can_be_done(tmp_path, capsys):
    assert main(["data", "build", "digits", "--out", str(tmp_path / "mine")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "base model: trained in 0 minutes"
    assert "right on 20 pictures that it never saw" in lines[1]
    assert lines[2] == f"set: {tmp_path / 'mine' / 'digits'}"
    assert lines[3] == "run on it: invdiff run --preset digits --out runs/digits"
    assert not (tmp_path / "cache").exists()


def test_what_is_missing_is_one_line(tmp_path, capsys):
    assert main(["data", "build", "scenes", "--from", str(tmp_path)]) == 1
    problem = capsys.readouterr().err.strip().splitlines()
    assert len(problem) == 1
    assert "apt-get install dataset-fashion-mnist" in problem[0]


def test_an_unknown_set_names_those_there_are(capsys):
    assert main(["data", "build", "scnes"]) == 2
    assert "there is no set 'scnes' to build" in capsys.readouterr().err
