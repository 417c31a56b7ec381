"""`invdiff doctor` on the command line."""

import json

from invdiff.app.cli import main
from tests.model import tiny


def test_the_command_line(tmp_path, capsys):
    model = tmp_path / "model"
    tiny.pipeline().save_pretrained(model)
    words = ["doctor", "--model.path", str(model), "--model.device", "cpu"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "memory: discover" in text
    assert "libraries: invdiff" in text
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    assert main([*words, "--data.path", "nowhere"]) == 1
    captured = capsys.readouterr()
    assert "to fix: nowhere does not exist" in captured.out
    assert captured.err == "invdiff: error: 1 problem to fix, listed above\n"
    assert main(["doctor", "--steps"]) == 2
