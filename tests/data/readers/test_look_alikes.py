"""Labels that look alike are one label on every path, and whoever reads them is told."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import invdiff
from invdiff.data.gallery import open_gallery, open_labelled
from invdiff.data.readers import listing
from invdiff.data.sources import open_listing, open_samples, read_captions, read_labels
from invdiff.engine.classifiers.classify import written_labels
from invdiff.engine.comparison.labels import attributes_of
from invdiff.errors import ArgumentError, DataError

LABELS = ["male", "Male", "male ", "female", "Fe\u200bmale", "FEMALE", "male", "female"]
CLEAN = ["male", "male", "male", "female", "female", "female", "male", "female"]


@pytest.fixture(autouse=True)
def every_word(caplog: pytest.LogCaptureFixture) -> None:
    listing.warn_once.cache_clear()
    caplog.set_level(logging.WARNING)


def folder_of(place: Path, labels: list[str]) -> Path:
    place.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    lines = ["file_name,caption,gender"]
    for number, label in enumerate(labels):
        Image.fromarray(pixels[number]).save(place / f"{number}.png")
        lines.append(f"{number}.png,a person,{label}")
    (place / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return place


def read(place: Path) -> list[str]:
    return list(read_labels(place, "gender", open_samples(place, 8)))


def grouped(place: Path) -> list[str]:
    return list(open_samples(place, 8, group_column="gender").prompt)


def written(place: Path) -> list[str]:
    rows = {"path": np.array([f"samples/{number}.png" for number in range(8)])}
    return written_labels(place.parent, rows, "gender").tolist()


PATHS = {
    "run": read,
    "prompt groups": grouped,
    "evaluate": lambda place: list(open_gallery(place).column("gender")),
    "classifier": lambda place: list(open_labelled(place, "gender", 8).labels),
    "written": written,
}


@pytest.mark.parametrize("path", PATHS)
def test_one_rule_on_every_path(tmp_path: Path, path: str, caplog) -> None:
    assert PATHS[path](folder_of(tmp_path / "samples", LABELS)) == CLEAN
    assert "labels that look alike are one: 'Male' (1) as 'male'" in caplog.text
    assert "'FEMALE' (1) as 'female'" in caplog.text


@pytest.mark.parametrize("word", ["nan", "NaN", "<NA>", "null", "N/A"])
def test_what_tables_write_for_a_missing_value_is_no_label(tmp_path: Path, word: str) -> None:
    place = folder_of(tmp_path / "samples", [word, *LABELS[1:]])
    assert open_labelled(place, "gender", 8).left_out["no label"] == 1
    with pytest.raises(DataError, match="1 of 8 pictures have no value in column 'gender'"):
        read(place)
    with pytest.raises(DataError, match="1 of 8 pictures have no value in column 'gender'"):
        open_gallery(place).column("gender")


def test_what_tables_write_for_a_missing_value_is_no_caption(tmp_path: Path) -> None:
    words = ["nan", "None", "NULL", "<NA>", "n/a", "none of them", "a hat"]
    for number in range(len(words)):
        Image.new("RGB", (8, 8), (number * 20, 9, 9)).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,{word}" for number, word in enumerate(words)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,caption", *rows]))
    captions = read_captions(tmp_path, open_listing(tmp_path), "")
    assert captions == [*[("",)] * 5, ("none of them",), ("a hat",)]


def test_two_folders_have_one_spelling(tmp_path: Path, caplog) -> None:
    upper = [one.title() for one in CLEAN]
    sets = {
        "a": open_gallery(folder_of(tmp_path / "a", CLEAN)),
        "b": open_gallery(folder_of(tmp_path / "b", upper)),
    }
    (found,) = attributes_of("", ["gender"], sets)
    assert len(found.classes) == 2
    assert found.labels["a"] == found.labels["b"]
    assert "labels that look alike" in caplog.text


def test_an_even_set_has_no_bias_whatever_its_labels_look_like() -> None:
    even = ["male", "Male", "male ", "female", "Female", "fe-male".replace("-", "")] * 20
    assert invdiff.bias(even, ["a person"] * len(even), resamples=100).value == pytest.approx(0)
    with pytest.raises(ArgumentError, match="labels: must name a class, not 1 empty or nan"):
        invdiff.bias([*even, "nan"], ["a person"] * (len(even) + 1))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["dark skin", "dark_skin", "dark-skin", "dark  skin"], 1),
        (["cafe\u0301", "caf\u00e9"], 1),
        (["1", "1.0", "1.00"], 1),
        (["-1", "1"], 2),
        (["01", "1"], 2),
        (["1.5", "15"], 2),
        (["a", "b"], 2),
        (["none", "a"], 2),
    ],
)
def test_what_looks_alike(values: list[str], wanted: int) -> None:
    found = listing.one_spelling(values, "labels")
    assert len(set(found)) == wanted
    assert listing.one_spelling(found, "labels") == found
    assert "" not in found


def test_the_spelling_is_that_of_known_classes() -> None:
    assert listing.one_spelling(["MALE", "male", "x"], "labels", ["Male"]) == ["Male", "Male", "x"]
