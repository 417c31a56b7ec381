"""Stage 1 on disk: what it reads, what it writes, and that an interrupted one goes on."""

import csv
import re
from collections import Counter

import numpy as np
import pytest
import torch

from invdiff.data.samples import Samples, sample_id
from invdiff.data.sets.drawn import faces
from invdiff.data.sources import open_samples
from invdiff.engine.discovery import discover as discover_stage
from invdiff.engine.discovery import scoring
from invdiff.engine.discovery.passes import Score
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.settings import config as configuration
from invdiff.engine.storage import hashed_tensors
from invdiff.engine.storage.files import read_json, read_parquet
from invdiff.engine.storage.hashed_tensors import cached
from invdiff.engine.training.train import load_mixture
from invdiff.engine.workflow import do_stage, session_of
from invdiff.errors import DataError
from tests import tiny_world
from tests.tiny_world import COAT, HAT, contents, copy_of

RESULTS = ("scores.parquet", "groups.parquet", "group_model.safetensors", "discovery.json")


def results(run):
    return {name: (run.path / name).read_bytes() for name in RESULTS}


@pytest.fixture
def shards_of_30(monkeypatch):
    """90 pictures in three shards."""
    monkeypatch.setattr(hashed_tensors, "SHARD", 30)


def test_every_weight_says_which_file_it_is_of(world, finished):
    """The id alone is a hash of the file and its prompt, which no other trainer knows."""
    groups = tiny_world.table(finished / "groups.parquet")
    assert list(groups)[-2:] == ["weight", "path"]
    for path, name, caption in zip(
        groups["path"], groups["sample_id"], groups["caption"], strict=True
    ):
        assert sample_id((world.data / path).read_bytes(), caption) == name


# Attributes


def few_faces(size, count=45):
    """The first pictures of each prompt of the embedded set."""
    everything = open_samples("faces", size)
    prompt = np.array(everything.prompt)
    rows = np.concatenate([np.flatnonzero(prompt == n)[:count] for n in everything.prompts()])
    return Samples(
        tuple(everything.sample_id[i] for i in rows),
        tuple(everything.prompt[i] for i in rows),
        lambda part: everything.pictures([int(rows[i]) for i in part]),
    )


def test_the_default_estimator_never_opens_the_attributes(tmp_path, monkeypatch):
    def refused(*_):
        raise AssertionError("discovery opened the attributes")

    monkeypatch.setattr(faces, "attributes", refused)
    monkeypatch.setattr(discover_stage, "read_labels", refused)
    monkeypatch.setattr(
        "invdiff.engine.encoding.session.open_data", lambda _, size: few_faces(size)
    )
    settings = {
        "processes": 1,
        "discover": {"images_per_prompt": 40, "levels": [0.98, 0.9]},
        "study": {"feature_levels": [0.15]},
    }
    run = RunFolder.open(tmp_path / "run", configuration.load(settings))
    do_stage(run, "discover")
    found = read_json(run.path / "discovery.json")
    assert len(found["prompts"]) == 4
    assert {entry["scored"] for entry in found["prompts"].values()} == {40}
    assert {entry["images"] for entry in found["prompts"].values()} == {45}


def relabel(data, permute):
    """The same pictures and captions; the label column in the order of ``permute``."""
    with (data / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    labels = [row["colour"] for row in rows]
    for row, index in zip(rows, permute(len(rows)), strict=True):
        row["colour"] = labels[index]
    tiny_world.write_metadata(data, rows)


@pytest.fixture
def relabelled(world, tmp_path):
    data = tiny_world.pictures(tmp_path / "data")
    relabel(data, lambda count: np.random.default_rng(5).permutation(count))
    return tiny_world.World(world.model, data)


def test_other_labels_give_the_same_groups_byte_for_byte(world, relabelled, finished, tmp_path):
    run = relabelled.open(tmp_path / "run", "data.label_column='colour'")
    do_stage(run, "discover")
    assert results(run) == {name: (finished / name).read_bytes() for name in RESULTS}


def test_the_labels_estimator_does_read_them(world, relabelled, tmp_path):
    against = []
    for number, one in enumerate((world, relabelled)):
        oracle = ["study.estimator='labels'", "data.label_column='colour'"]
        run = one.open(tmp_path / f"run{number}", *oracle)
        do_stage(run, "discover")
        against.append(read_parquet(run.path / "groups.parquet")["group"])
    assert sum(against[0]) == sum(against[1]) == 2 * 5  # the cold ones: 10 % of 45, twice
    assert against[0] != against[1]


def test_only_scored_images_are_compared_under_all_prompts(world, tmp_path):
    run = world.open(tmp_path / "run", "discover.images_per_prompt=20")
    measured = scoring.run_passes(session_of(run), session_of(run).samples)
    assert np.isin(measured.contrasts().rows, measured.scored).all()


def test_the_weights_have_the_mix_that_is_wanted(world, tmp_path):
    settings = ["study.estimator='labels'", "data.label_column='colour'"]
    run = world.open(tmp_path / "run", *settings, "discover.target=[0.7,0.3]")
    do_stage(run, "discover")
    groups = tiny_world.table(run.path / "groups.parquet")
    for name in (HAT, COAT):
        rows = groups["prompt"] == name
        weight, cold = groups["weight"][rows], groups["group"][rows] == 1
        assert weight[cold].sum() / weight.sum() == pytest.approx(0.3)
    assert load_mixture(session_of(run)).wanted == 0.3


# Resume


def test_an_interrupted_discovery_goes_on_and_gives_the_same(
    world, tmp_path, monkeypatch, shards_of_30
):
    straight, broken = world.open(tmp_path / "straight"), world.open(tmp_path / "broken")
    do_stage(straight, "discover")
    did, scored = Counter(), Score.__call__

    def counted(self, shard):
        did["score"] += 1
        if did["score"] == 3:
            raise KeyboardInterrupt
        return scored(self, shard)

    monkeypatch.setattr(Score, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        do_stage(broken, "discover")
    assert not broken.done("discover")
    left = tiny_world.stamps(broken.path / "cache")
    assert Counter(re.sub(r".*/|-\w+\..*", "", name) for name in left) == {
        "latents": 3, "prompts": 2, "scores": 2,
    }  # fmt: skip

    again = world.open(tmp_path / "broken")
    do_stage(again, "discover")
    assert did["score"] == 3 + 1, "only the shard that is missing is computed"
    now = tiny_world.stamps(broken.path / "cache")
    assert {name: now[name] for name in left} == left
    assert results(again) == results(straight)
    assert contents(again.path / "cache") == contents(straight.path / "cache")


def test_a_damaged_shard_is_computed_again(tmp_path):
    made = []

    def work(shard):
        made.append(shard)
        return {"value": torch.full((2,), float(shard))}

    def compute():
        return cached(work, [0, 1, 2], tmp_path, "part", {}, processes=1, title="")["value"]

    first = compute()
    next(tmp_path.rglob("part-00001.safetensors")).write_bytes(b"cut off")
    assert torch.equal(compute(), first)
    assert made == [0, 1, 2, 1]


def test_a_finished_discovery_is_left_alone(finished, tmp_path):
    run = RunFolder.open(copy_of(finished, tmp_path / "run"))
    before = tiny_world.stamps(run.path)
    do_stage(run, "discover")
    assert tiny_world.stamps(run.path) == before


# What cannot be worked with


def test_prompts_that_never_repeat(world, tmp_path):
    data = tiny_world.pictures(tmp_path / "data", count=5)
    with (data / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        row["caption"] = f"picture {number}"
    tiny_world.write_metadata(data, rows)
    run = tiny_world.World(world.model, data).open(tmp_path / "run")
    with pytest.raises(DataError, match=r"no prompt has 40 images \(data\.min_images\), .* has 10"):
        do_stage(run, "discover")
    assert not run.done("discover")


def test_a_prompt_with_few_images_is_kept_and_not_searched(world, tmp_path):
    data = tiny_world.pictures(tmp_path / "data")
    with (data / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows[:5]:
        row["caption"] = "a scarf"
    for row in rows[5:20]:
        row["caption"] = COAT
    tiny_world.write_metadata(data, rows)
    run = tiny_world.World(world.model, data).open(tmp_path / "run")
    do_stage(run, "discover")
    prompts = read_json(run.path / "discovery.json")["prompts"]
    assert {name: entry["scored"] for name, entry in prompts.items()} == {
        COAT: 45, HAT: 0, "a scarf": 0,
    }  # fmt: skip
    assert not prompts["a scarf"]["found"]
    groups = read_parquet(run.path / "groups.parquet")
    assert Counter(groups["prompt"]) == {COAT: 60, HAT: 25, "a scarf": 5}
    assert {w for w, p in zip(groups["weight"], groups["prompt"], strict=True) if p == HAT} == {1.0}


def test_what_is_scored_depends_on_the_seed_and_the_prompt_alone(world):
    samples = few_faces(32, 50)
    chosen = scoring.choose_scored(samples, most=20, least=40, seed=1)
    prompt = np.array(samples.prompt)
    assert Counter(prompt[chosen]) == dict.fromkeys(samples.prompts(), 20)
    assert (np.diff(chosen) > 0).all()
    part = np.flatnonzero(prompt == samples.prompts()[1])
    alone = Samples(
        tuple(samples.sample_id[i] for i in part), tuple(prompt[part]), samples.pictures
    )
    assert part[scoring.choose_scored(alone, 20, 40, 1)].tolist() == [
        i for i in chosen if i in set(part)
    ]
    assert len(scoring.choose_scored(samples, most=20, least=51, seed=1)) == 0
