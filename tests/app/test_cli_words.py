"""The command line's help, and what it refuses to read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from invdiff.app.cli import main
from invdiff.app.cli.options import PRESETS
from invdiff.app.cli.parser import build, parse
from invdiff.engine.settings import config as configuration

HELP = Path(__file__).parents[2] / "docs" / "cli-help"


def lines_of(capsys):
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


def verbs():
    """Every parser, by the name of its help file."""
    found = {"invdiff": build()}
    for name, parser in choices(found["invdiff"]).items():
        found[name] = parser
        found |= {f"{name}-{action}": inner for action, inner in choices(parser).items()}
    return found


def choices(parser):
    actions = [action for action in parser._actions if isinstance(action.choices, dict)]
    return actions[0].choices if actions else {}


@pytest.mark.parametrize("name", sorted(verbs()))
def test_help_is_what_the_docs_show(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    text, path = verbs()[name].format_help(), HELP / f"{name}.txt"
    if os.environ.get("INVDIFF_WRITE_HELP") == "1":
        path.write_text(text)
    assert path.read_text() == text, (
        "INVDIFF_WRITE_HELP=1 pytest tests/app/test_cli_words.py writes it"
    )


def test_no_help_text_is_left_over():
    assert {path.stem for path in HELP.iterdir()} == set(verbs())


def test_help_is_fast_and_version_is_told():
    before = os.times()
    command = [sys.executable, "-m", "invdiff", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    assert after.children_user - before.children_user < 0.5
    command[-1] = "--version"
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "invdiff 0.1.0\n"


def test_settings_are_taken_in_both_spellings():
    words = ["run", "--train.steps", "3", "--out", "x", "--data.min-images=-2", "--seed", "-1"]
    asked = parse([*words, "--data.label_column="])
    expected = ["train.steps=3", "data.min_images=-2", "seed=-1", "data.label_column="]
    assert asked.overrides == expected
    assert asked.out == Path("x")


def test_every_mistake_on_the_line_is_told(tmp_path, capsys):
    words = ["run", "--steps", "3", "--dryrun", "--train.stepz=5", "--train.batch_size", "3"]
    words += ["--preset", "face", "--sample.steps", "--out", str(tmp_path / "x")]
    assert main(words) == 2
    _, told = lines_of(capsys)
    assert all(line.startswith("invdiff: error: ") for line in told)
    text = "\n".join(told)
    for part in (
        "--steps: no such option; did you mean --train.steps?",
        "--dryrun: no such option; did you mean --dry-run?",
        "--train.stepz: no such setting; did you mean --train.steps?",
        "train.batch_size: must be even",
        "no preset 'face'",
        "--sample.steps: needs a value",
    ):
        assert part in text
    assert len(told) == 6
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "required: VERB"),
        (["trian"], "invalid choice: 'trian'"),
        (["run", "--preset", "faces"], "required: --out"),
        (["run", "--out", "{tmp}/x"], "is a new run: name its settings with --preset"),
        (["run", "--out", "{tmp}/x", "--preset", "faces", "--config", "f"], "no such config file"),
        (["run", "--out", "x", "--config", "{tmp}/no.toml"], "no such config file"),
        (["run", "--out", "x", "--config", "{tmp}"], "is a folder"),
        (["benchmark", "run", "faces", "--seeds", "0", "--out", "x"], "at least 1"),
        (["config", "word"], "one word too many"),
    ],
)
def test_usage_is_one_line_and_exit_code_2(words, told, tmp_path, capsys):
    assert main([word.replace("{tmp}", str(tmp_path)) for word in words]) == 2
    out, error = lines_of(capsys)
    assert out == []
    assert len(error) == 1
    assert error[0].startswith("invdiff: error: ")
    assert told in error[0]


def test_help_names_every_preset():
    assert PRESETS.split(", ") == configuration.preset_names()
