"""Sets that the guided sampler evens out: which pictures are kept, and that none is lost."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from invdiff.app.cli import main
from invdiff.core.groups.two_groups import GroupModel
from invdiff.data.readers.listing import Listing, SourceTable
from invdiff.data.sources import open_samples
from invdiff.engine.augmentation import augment as augmenting
from invdiff.engine.augmentation import drawing
from invdiff.engine.augmentation.augment import augment
from invdiff.engine.augmentation.drawing import Quota, draw_all, due, kept_pictures
from invdiff.engine.sampling.sampler import Sampler
from invdiff.engine.storage.files import read_json, write_json
from invdiff.engine.workflow import do_stage, session_of
from invdiff.errors import RunError
from tests import tiny_world

ORACLE = ("study.estimator='labels'", "data.label_column='colour'", "calibrate.strengths=[1.0]")
MODEL = GroupModel(np.ones(1), (0.0, 1.0, 0.0), 0.0)


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A trained run whose groups are told apart at the middle of what it draws."""
    run = world.open(tmp_path_factory.mktemp("trained") / "run", *ORACLE)
    do_stage(run, "discover")
    do_stage(run, "train")
    path = run.path / "group_model.safetensors"
    models = load_file(path)
    width = len(next(iter(models.values()))) - 4
    weight = torch.zeros(width).index_fill(0, torch.tensor([0]), 1.0)
    for prompt in models:
        quota = Quota(prompt, (prompt,), (8, 8), GroupModel(weight.numpy(), (0.0, 1.0, 0.0), 0.0))
        request = augmenting.AugmentRequest(None, 2.5, 1.0, "-", 0)
        artist = augmenting.artist_of(session_of(run), tmp_path_factory.mktemp("look"), request)
        middle = float(np.median(artist((quota, tuple(range(8))))))
        models[prompt] = torch.cat([weight, torch.tensor([-middle, 1.0, 0.0, 0.0])]).double()
    save_file(models, path)
    tiny_world.resealed(run.path)
    return run


def rows_of(out):
    with (out / "metadata.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def topped(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("topped") / "set"
    return out, augment(session_of(trained), out)


def test_the_inferred_groups_of_each_prompt_are_even(topped):
    out, record = topped
    rows = rows_of(out)
    for prompt in (tiny_world.HAT, tiny_world.COAT):
        own = [row for row in rows if row["prompt"] == prompt]
        assert sorted(row["group"] for row in own).count("0") * 2 == len(own)
        assert sum(row["synthetic"] == "false" for row in own) == 45
        entry = record["prompts"][prompt]
        assert {g: entry["real"][g] + entry["synthetic"].get(g, 0) for g in "01"} == (
            dict.fromkeys("01", len(own) // 2)
        )
        assert entry["drawn"] >= entry["synthetic"]["1"]


def test_synthetic_pictures_say_where_they_are_from(topped, trained):
    out, record = topped
    rows = [row for row in rows_of(out) if row["synthetic"] == "true"]
    assert (
        {row["run"] for row in rows}
        == {record["run"]}
        == {augmenting.identity(session_of(trained))}
    )
    assert len({(row["prompt"], row["seed"]) for row in rows}) == len(rows)
    assert not any(row["sample_id"] for row in rows)
    assert not any(row["seed"] for row in rows_of(out) if row["synthetic"] == "false")
    row = rows[0]
    adapter = trained.path / "adapter"
    model = tiny_world.denoiser(world=type("W", (), {"model": trained.config.model.path}))
    sampler = Sampler(model, adapter, record["strength"], (0.0, 1.0), record["guidance_scale"], 2)
    (again,) = sampler.pictures([row["caption"]], [int(row["seed"])]).astype(int)
    with Image.open(out / row["file_name"]) as picture:
        assert abs(np.asarray(picture).astype(int) - again).max() <= 1


def test_the_set_is_data_like_any_other(topped, capsys):
    out, _ = topped
    main(["data", "check", str(out)])
    told = capsys.readouterr().out
    count = len(rows_of(out))
    assert f"{count} pictures, {count} can be used" in told
    assert " 0  cannot be used" in told
    samples = open_samples(out, 16)
    assert (len(samples), samples.quarantined) == (count, ())
    assert samples.prompts() == (tiny_world.COAT, tiny_world.HAT)
    assert not (out / ".drawn").exists()
    assert {path.name for path in out.iterdir()} - {".lock"} == {
        "augmentation.json",
        "metadata.csv",
        "real",
        "synthetic",
    }


def test_an_interrupted_set_goes_on_and_ends_the_same(trained, topped, tmp_path, monkeypatch):
    out, seeds = tmp_path / "set", []
    original = Sampler.pictures

    def pictures(self, prompts, asked):
        if len(seeds) >= 6:
            raise KeyboardInterrupt
        seeds.extend(asked)
        return original(self, prompts, asked)

    monkeypatch.setattr(Sampler, "pictures", pictures)
    with pytest.raises(KeyboardInterrupt):
        augment(session_of(trained), out)
    assert not (out / "metadata.csv").exists()
    before, seeds[:] = list(seeds), []
    monkeypatch.setattr(
        Sampler, "pictures", lambda self, p, s: seeds.extend(s) or original(self, p, s)
    )
    augment(session_of(trained), out)
    assert seeds
    assert not set(seeds) & set(before)
    assert rows_of(out) == rows_of(topped[0])
    seeds.clear()
    augment(session_of(trained), out)
    assert not seeds


def test_a_set_of_its_own_has_the_size_that_was_asked_for(trained, tmp_path):
    record = augment(session_of(trained), tmp_path / "set", images=5, strength=1.0)
    rows = rows_of(tmp_path / "set")
    assert {row["synthetic"] for row in rows} == {"true"}
    for prompt in (tiny_world.HAT, tiny_world.COAT):
        groups = [row["group"] for row in rows if row["prompt"] == prompt]
        assert (groups.count("0"), groups.count("1")) == (2, 3)
    assert (record["strength"], record["guidance_scale"]) == (1.0, 2.5)
    with pytest.raises(RunError, match="begun with other settings"):
        augment(session_of(trained), tmp_path / "set", images=5, strength=0.5)


def test_other_files_are_left_alone(trained, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        augment(session_of(trained), tmp_path)


def test_a_run_without_guidance_has_nothing_to_draw_with(world, finished, tmp_path):
    copy = tiny_world.copy_of(finished, tmp_path / "run")
    write_json(copy / "training.json", read_json(copy / "training.json") | {"skipped": True})
    tiny_world.resealed(copy)
    with pytest.raises(RunError, match="trained nothing"):
        augment(session_of(world.open(copy)), tmp_path / "set")


def test_the_command_tells_what_there_is(trained, topped, capsys):
    out, _ = topped
    assert main(["augment", str(trained.path), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "45" in told
    assert f"set: {out}" in told
    assert main(["augment", str(trained.path), "--out", str(out), "--scale", "0.5"]) == 2
    assert "--scale: must be a number of at least 1" in capsys.readouterr().err


# Which pictures are kept


class Sequence:
    """Picture k has the ratio that is written for k; counts what was asked for."""

    def __init__(self, ratios):
        self.ratios, self.asked = np.asarray(ratios, float), []

    def __call__(self, shard):
        _, indices = shard
        self.asked.extend(indices)
        return self.ratios[list(indices)]


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_first_of_each_group_are_kept_whatever_the_batch(batch):
    ratios = np.tile([-1, -1, -1, 1], 50)
    quota = Quota("x", ("x",), (2, 3), MODEL)
    known = draw_all(Sequence(ratios), [quota], batch, 1)["x"]
    assert kept_pictures(quota, known) == [0, 1, 3, 7, 11]


def test_without_groups_the_first_are_kept():
    quota = Quota("x", ("x",), (4,))
    artist = Sequence(np.zeros(40))
    known = draw_all(artist, [quota], 8, 1)["x"]
    assert (kept_pictures(quota, known), artist.asked) == ([0, 1, 2, 3], list(range(8)))


def test_nothing_wanted_nothing_drawn():
    assert list(due(Quota("x", ("x",), (0, 0), MODEL), np.zeros(0), 8)) == []


def test_a_group_that_hardly_comes_is_said():
    quota = Quota("a hat", ("a hat",), (0, 4), MODEL)
    with pytest.raises(
        RunError, match=r"only 0 of \d+ pictures of 'a hat' are of inferred group 1"
    ):
        draw_all(Sequence(-np.ones(5000)), [quota], 16, 1)


def test_a_damaged_picture_is_drawn_again(trained, tmp_path):
    request = augmenting.AugmentRequest(None, 1.0, 1.0, "-", 0)
    artist = augmenting.artist_of(session_of(trained), tmp_path, request)
    quota = Quota(tiny_world.HAT, (tiny_world.HAT,), (1, 0), MODEL)
    path = artist.path(quota, 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a picture")
    with pytest.raises(RunError, match="was damaged"):
        artist((quota, (0,)))
    assert not path.exists()
    shutil.rmtree(tmp_path)


# The files of the data


def test_originals_are_copied_byte_for_byte_under_their_own_names(topped, trained):
    out, _ = topped
    own = tiny_world.contents(Path(trained.config.data.path), "*.png")
    assert tiny_world.contents(out / "real") == own
    rows = [row for row in rows_of(out) if row["synthetic"] == "false"]
    assert {row["file_name"] for row in rows} == {f"real/{name}" for name in own}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("deep/er/1.jpeg", "deep/er/1.jpeg"),
        ("../../1.png", "1.png"),
        ("/etc/1.png", "etc/1.png"),
        ("train.parquet, row 3", "train.parquet, row 3.png"),
    ],
)
def test_a_name_stays_below_the_folder_and_says_its_format(tmp_path, name, own):
    path = tmp_path / "p.png"
    Image.new("RGB", (4, 4)).save(path)
    listing = Listing([name], SourceTable(tmp_path, (), lambda _: []), lambda _: b"")
    content = path.read_bytes()
    assert augmenting._file_of(listing, 0, content, "id") == (own, content)


def test_drawn_pictures_of_one_colour_are_told(trained, tmp_path, monkeypatch, capsys):
    original = Sampler.pictures
    monkeypatch.setattr(Sampler, "pictures", lambda *asked: 0 * original(*asked))
    words = ["augment", str(trained.path), "--images-per-prompt", "2", "--out"]
    monkeypatch.setattr(
        augmenting, "groups_of_drawn", lambda quota, known: np.arange(len(known)) % 2
    )
    monkeypatch.setattr(drawing, "groups_of_drawn", lambda quota, known: np.arange(len(known)) % 2)
    assert main([*words, str(tmp_path / "set"), "--strength", "1"]) == 0
    record = read_json(tmp_path / "set" / "augmentation.json")
    assert len(record["one_colour"]) == 4
    assert "note: 4 drawn pictures are of one colour throughout" in capsys.readouterr().out
