"""`invdiff data classifier`, as typed, and a run that uses the file."""

import pytest

from invdiff.app.cli import main
from invdiff.engine.classifiers.choose import from_file
from tests.engine.labelled_faces import export


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return export(tmp_path_factory.mktemp("labelled") / "faces", 100)


def words(labelled, out, *more):
    asked = ["--from", str(labelled), "--label-column", "gender", "--out", str(out)]
    return ["data", "classifier", *asked, "--steps", "10", *more]


def test_the_errors_are_told_and_the_next_step(labelled, tmp_path, capsys):
    out = tmp_path / "gender.safetensors"
    assert main(words(labelled, out, "--split-seed", "3")) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = from_file(out, "x").classifier.facts
    claim = facts["attributes"]["gender"]
    assert lines[0].startswith(f"{facts['trained_on']} pictures to train on, ")
    assert f"of {claim['held_out']} held-out pictures" in lines[1]
    assert lines[3].split() == ["female", *map(str, claim["confusion"][0])]
    assert lines[-1] == f"use it: --evaluate.classifier {out}"
    assert facts["split_seed"] == 3


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"--label-column": "age"}, 1, "no column 'age'"),
        ({"--out": "c.pt"}, 2, "must end in .safetensors"),
        ({"--steps": "0"}, 2, "at least 1"),
        ({"--backbone": "no/such"}, 1, "hf download"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(labelled, tmp_path, capsys, change, code, said):
    asked = words(labelled, tmp_path / "c.safetensors", "--backbone", "")
    for option, value in change.items():
        asked[asked.index(option) + 1] = value
    assert main(asked) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not list(tmp_path.iterdir())
