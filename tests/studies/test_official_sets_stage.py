"""Prepared benchmarks: folders that a run reads, whole or not there at all."""

import os
import shutil
from collections import Counter

import numpy as np
import pytest

from invdiff.data import sources
from invdiff.engine.storage.files import read_json, read_parquet
from invdiff.errors import ConfigError, DataError, RunError
from invdiff.studies import official_sets as prepare_module
from invdiff.studies.official_sets import BENCHMARKS, prepare
from tests.data.tiny_archives import MAKE, make

ONCE = pytest.mark.parametrize("name", MAKE)
LABEL = {"waterbirds": "background", "celeba": "gender", "fairface": "race4"}


def prepared(name, folder, ratio="", seed=0, out="out"):
    tiny = make(name, folder / "archive")
    return prepare(name, tiny.folder, folder / out, ratio, seed, tiny.published)


@ONCE
def test_every_split_is_a_source_of_samples(name, tmp_path):
    out = prepared(name, tmp_path)
    report = read_json(out / "preparation.json")
    assert {path.name for path in out.iterdir()} == {"preparation.json", *report["splits"]}
    for split, counts in report["splits"].items():
        samples = sources.open_samples(out / split, image_size=8)
        assert samples.quarantined == ()
        assert len(samples) == sum(counts.values())
        labels = sources.read_labels(out / split, "group", samples)
        assert Counter(labels) == {group: count for group, count in counts.items() if count}
        table = read_parquet(out / split / "metadata.parquet")
        assert samples.prompt == tuple(table["caption"])
        assert sources.read_labels(out / split, LABEL[name], samples) == tuple(table[LABEL[name]])


def test_the_classes_of_waterbirds_are_prompts_too(tmp_path):
    out = prepared("waterbirds", tmp_path)
    samples = sources.open_samples(out / "train", 8, prompt_column="class_caption")
    assert samples.prompts() == ("a landbird", "a waterbird")


@ONCE
def test_pictures_are_linked_and_not_copied(name, tmp_path):
    out = prepared(name, tmp_path)
    before = sources.open_samples(out / "train", 8)
    files = [path for path in out.rglob("*") if not path.is_symlink() and path.is_file()]
    assert {path.name for path in files} == {"metadata.parquet", "preparation.json"}
    shutil.move(tmp_path / "archive", tmp_path / "moved")
    with pytest.raises(DataError, match="the file is missing"):
        sources.open_samples(out / "train", 8)
    link = out / "train" / "pictures"
    inner = link.readlink().relative_to((tmp_path / "archive").resolve())
    link.unlink()
    link.symlink_to(tmp_path / "moved" / inner)
    after = sources.open_samples(out / "train", 8)
    assert after.sample_id == before.sample_id
    assert np.array_equal(after.pictures([0, 1]), before.pictures([0, 1]))


@pytest.mark.parametrize(
    ("name", "ratio", "left"),
    [
        ("waterbirds", "2:1:0:1", [6, 3, 0, 3]),
        ("celeba", "1:2:2:1", [3, 6, 6, 3]),
        ("fairface", "3:2:1:1:1:1:2:3", [3, 2, 1, 1, 1, 1, 2, 3]),
    ],
)
def test_a_ratio_is_that_of_the_training_split_alone(name, ratio, left, tmp_path):
    out = prepared(name, tmp_path, ratio)
    report = read_json(out / "preparation.json")
    assert list(report["splits"]["train"].values()) == left
    assert list(report["splits"]["train"]) == list(BENCHMARKS[name].groups)
    whole = read_json(prepared(name, tmp_path, out="whole") / "preparation.json")
    assert report["splits"]["validation"] == whole["splits"]["validation"]
    assert (report["ratio"], whole["ratio"]) == (ratio, None)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    def table(seed, out):
        folder = prepared("celeba", tmp_path, "1:2:2:1", seed, out)
        return (folder / "train" / "metadata.parquet").read_bytes()

    assert table(3, "a") == table(3, "b")
    assert table(3, "c") != table(4, "d")


@ONCE
def test_a_refused_archive_leaves_nothing(name, tmp_path):
    tiny = make(name, tmp_path / "archive")
    archive = tiny.read()
    (archive.pictures / archive.entries[-1].file).unlink()
    with pytest.raises(DataError, match="is missing"):
        prepare(name, tiny.folder, tmp_path / "out", published=tiny.published)
    assert os.listdir(tmp_path) == ["archive"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no room")])
def test_an_interruption_leaves_nothing(error, tmp_path, monkeypatch):
    """Half of the splits are written when it comes."""
    write = prepare_module.write_split

    def once(folder, *rest):
        if folder.name == "validation":
            raise error
        return write(folder, *rest)

    monkeypatch.setattr(prepare_module, "write_split", once)
    with pytest.raises((KeyboardInterrupt, OSError)):
        prepared("fairface", tmp_path)
    assert os.listdir(tmp_path) == ["archive"]


def test_what_is_there_stays(tmp_path):
    out = prepared("waterbirds", tmp_path)
    before = (out / "preparation.json").read_bytes()
    with pytest.raises(RunError, match="is there already and is not empty"):
        prepared("waterbirds", tmp_path, ratio="1:1:1:1")
    assert (out / "preparation.json").read_bytes() == before


def test_a_place_without_links_is_named(tmp_path, monkeypatch):
    def refuse(self, target, target_is_directory):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    with pytest.raises(DataError, match="give --out a place that allows symbolic links"):
        prepared("waterbirds", tmp_path)
    assert os.listdir(tmp_path) == ["archive"]


def test_the_published_figures_are_the_default(tmp_path):
    tiny = make("waterbirds", tmp_path / "archive")
    with pytest.raises(DataError, match="in the test split, the published set has 2255"):
        prepare("waterbirds", tiny.folder, tmp_path / "out")


def test_unknown_benchmarks_and_ratios_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="no benchmark 'birds': one of waterbirds, celeba"):
        prepare("birds", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ConfigError, match="has 2 parts, there are 8 groups"):
        prepare("fairface", tmp_path / "nowhere", tmp_path / "out", "1:2")
