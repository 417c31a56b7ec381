"""What reaches a terminal shows as itself."""

import io
import os
import time

import pytest

import invdiff
from invdiff.app.cli import main
from invdiff.errors import ConfigError, DataError, InvDiffWarning
from invdiff.terminal import Bar, PlainStream, printable

EVIL = "red\x1b[31m \u202eevil\u2066 \x9b2J \udcff\x07"
SHOWN = r"red\u001b[31m \u202eevil\u2066 \u009b2J \udcff\u0007"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (EVIL, SHOWN),
        ("a\nb\r\u2028c", r"a\u000ab\u000d\u2028c"),
        ("a photo of a café, 写真\u3000集, 👩\u200d🔬, a\u200cb", None),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_does_not_show_as_itself_is_an_escape(text, shown):
    assert printable(text) == (text if shown is None else shown)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_stream_takes_any_text(encoding):
    raw = io.BytesIO()
    stream = PlainStream(io.TextIOWrapper(raw, encoding))
    print(f"é {EVIL}", file=stream, flush=True)
    stream.write("\x1b[A")  # of a bar below another
    stream.flush()
    told = raw.getvalue().decode(encoding)
    assert told.endswith(f" {SHOWN}\n\x1b[A")
    assert told.startswith("é" if encoding == "utf-8" else r"\xe9")


def test_a_bar_knows_no_negative_hours(monkeypatch):
    out = io.StringIO()
    clock = iter(range(10**6, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: next(clock))
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    for _ in Bar(range(3), f"counting {EVIL}", file=out, mininterval=0):
        pass
    assert "-" not in out.getvalue().replace("\r", "")
    assert SHOWN in out.getvalue()


def test_what_python_tells_of_a_mistake_shows_as_itself(tmp_path):
    for made in (DataError(EVIL), ConfigError([EVIL]), InvDiffWarning(EVIL)):
        assert str(made) == SHOWN
    page = invdiff.Run(tmp_path / "run\u202e", data="a\x1b\u202eb")._repr_html_()
    assert page.replace("\n", "").isprintable()


def broken(folder, name):
    """A file of that name that is no picture, with a caption."""
    folder.mkdir()
    for suffix, content in ((b".png", b"<html>"), (b".txt", b"a hat")):
        with open(os.fsencode(folder) + b"/" + name + suffix, "wb") as file:
            file.write(content)
    return ["data", "check", str(folder)]


def test_names_of_files_reach_the_terminal_as_escapes(tmp_path, capsys):
    assert main(broken(tmp_path / "data", "a\x1b[31m\u202e\xe9".encode())) == 1
    out = capsys.readouterr().out
    assert "  a\\u001b[31m\\u202e\xe9.png: not a picture" in out


def test_a_name_that_is_no_text_is_one_line(tmp_path, capsys):
    words = broken(tmp_path / "data", b"a\xff")
    assert main([*words, "--quarantine", str(tmp_path / "bad.csv")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert r"a\udcff.png: its name is not UTF-8 text; rename it" in line
    assert not (tmp_path / "bad.csv").exists()
