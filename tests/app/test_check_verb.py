"""`invdiff data check` as its user sees it: what it prints, writes, and how it ends."""

import csv
import json

import pytest
from PIL import Image

from invdiff.app.cli import main
from invdiff.data import audit
from invdiff.data.sources import open_samples
from tests import tiny_world


@pytest.fixture
def data(tmp_path):
    folder = tiny_world.pictures(tmp_path / "pictures", count=4)
    (folder / "a-hat-000.png").write_bytes(b"<html>")
    (folder / "a-hat-001.png").write_bytes((folder / "a-hat-002.png").read_bytes())
    return folder


def told(data, *words):
    return main(["data", "check", str(data), "--min-side", "8", *words])


def test_counts_and_reasons(data, capsys):
    assert told(data) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{data}: 8 pictures, 7 can be used\n")
    assert "  unreadable           1  cannot be used\n" in out
    assert "  truncated            0  cannot be used\n" in out
    assert "  a-hat-000.png: not a picture, or of an unknown format\n" in out
    assert "  a-hat-002.png: duplicate of a-hat-001.png\n" in out


def test_nothing_to_say_is_exit_code_0(tmp_path, capsys):
    folder = tiny_world.pictures(tmp_path / "pictures", count=4)
    assert told(folder) == 0
    assert told(folder, "--min-side", "17") == 1
    capsys.readouterr()


def test_what_a_run_takes_all_the_same_is_told_and_in_no_list(tmp_path, capsys):
    folder = tiny_world.pictures(tmp_path / "pictures", count=4)
    Image.new("RGB", (16, 16)).save(folder / "a-hat-000.png")
    frames = [Image.effect_noise((16, 16), sigma) for sigma in (20, 90)]
    frames[0].save(folder / "a-hat-001.png", save_all=True, append_images=frames[1:])
    place = tmp_path / "bad.csv"
    assert told(folder, "--quarantine", str(place)) == 0
    out = capsys.readouterr().out
    assert "  a-hat-000.png: every pixel has the same colour" in out
    assert "  a-hat-001.png: 2 pictures in one file" in out
    assert len(place.read_text().splitlines()) == 1


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_list_it_writes_is_the_one_that_a_run_takes(data, tmp_path, capsys, suffix):
    place = tmp_path / f"bad.{suffix}"
    assert told(data, "--quarantine", str(place)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "invdiff: error: 2 of 8 pictures should be left out or mended; a run leaves them out with "
        f"--data.quarantine {place}"
    )
    samples = open_samples(data, 8, max_bad_share=0, quarantine=place)
    assert [name for name, _ in samples.quarantined] == ["a-hat-000.png", "a-hat-002.png"]
    assert len(samples) == 6


def test_near_duplicates_are_left_out_on_request(data, tmp_path, capsys):
    rows = {}
    # flat pictures with noise: each garment's warm ones look alike
    for name, words in (("few", ()), ("many", ("--near-duplicates",))):
        place = tmp_path / f"{name}.csv"
        told(data, "--quarantine", str(place), *words)
        with place.open(newline="") as stream:
            rows[name] = [row["kind"] for row in csv.DictReader(stream)]
    found = capsys.readouterr().out.count("looks like") // 2
    assert rows["many"].count("near-duplicate") == found
    assert "near-duplicate" not in rows["few"]


def test_json_is_everything_and_nothing_else(data, capsys):
    assert told(data, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["pictures"], found["usable"]) == (8, 7)
    assert found["counts"]["unreadable"] == 1
    assert {"name", "kind", "reason", "picture"} == set(found["findings"][0])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--quarantine", "bad.txt"], 2, "--quarantine bad.txt must end in .csv or .parquet"),
        (["--min-side", "x"], 2, "invalid int value: 'x'"),
        (["--prompt-column", "captoin"], 1, "did you mean 'caption'?"),
        (["--train.steps", "5"], 2, "data takes no settings: it looks at pictures, not at a run"),
    ],
)
def test_mistakes_are_one_line(data, capsys, words, code, message):
    assert told(data, *words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_an_interrupted_check_writes_nothing(data, tmp_path, monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "audit", stopped)
    assert told(data, "--quarantine", str(tmp_path / "bad.csv")) == 75
    assert "interrupted; nothing was written, the same command begins" in capsys.readouterr().err
    assert not (tmp_path / "bad.csv").exists()


def test_tiny_pictures_are_told_and_left_out_only_when_asked(tmp_path, capsys):
    folder = tiny_world.pictures(tmp_path / "pictures", count=4)  # 16 x 16
    assert main(["data", "check", str(folder)]) == 0
    assert "8 can be used" in capsys.readouterr().out
    place = tmp_path / "list.csv"
    assert main(["data", "check", str(folder), "--quarantine", str(place)]) == 0
    assert len(place.read_text().splitlines()) == 1
    assert main(["data", "check", str(folder), "--min-side", "17"]) == 1
