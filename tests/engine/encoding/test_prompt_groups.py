"""Prompt groups through the stages: compared within the group, trained under the own caption."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from invdiff.engine.discovery import scoring
from invdiff.engine.discovery.passes import Score
from invdiff.engine.encoding import encode
from invdiff.engine.encoding import encode as prompt_groups
from invdiff.engine.encoding.encode import group_prompts, way_of
from invdiff.engine.sampling.sample import sampling_parts
from invdiff.engine.settings import config as configuration
from invdiff.engine.storage.files import read_json
from invdiff.engine.training.train import load_mixture
from invdiff.engine.workflow import do_stage, session_of
from invdiff.errors import ConfigError, DataError
from tests import tiny_world
from tests.tiny_world import COAT, HAT, denoiser, table

COLOURS = ("red", "blue", "old", "new", "big")


@pytest.fixture(scope="module")
def own(world, tmp_path_factory):
    """The tiny world with a caption of its own for each picture, its garment in a column."""
    data = tiny_world.pictures(tmp_path_factory.mktemp("own") / "data")
    rows = [
        {
            "file_name": f"{garment.replace(' ', '-')}-{at:03d}.png",
            "caption": f"{garment} {COLOURS[at % 5]} {at}",
            "garment": garment,
        }
        for garment in (HAT, COAT)
        for at in range(45)
    ]
    tiny_world.write_metadata(data, rows)
    return tiny_world.World(world.model, data)


@pytest.fixture(scope="module")
def by_column(own, tmp_path_factory):
    """A discovery within the garments; and what was scored under which captions."""
    scored, really = [], Score.__call__

    def record(self, shard):
        scored.extend(shard[1])
        return really(self, shard)

    run = own.open(tmp_path_factory.mktemp("run") / "run", "data.group_column='garment'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Score, "__call__", record)
        do_stage(run, "discover")
    return run, scored


def garment_of(caption):
    return HAT if caption.startswith(HAT) else COAT


def test_groups_are_within_the_column_and_scores_under_the_own_caption(by_column):
    run, scored = by_column
    groups = table(run.path / "groups.parquet")
    assert set(groups["prompt"]) == {HAT, COAT}
    assert len(set(groups["caption"])) == 90
    assert sorted(scored) == sorted(groups["caption"])
    assert all(garment_of(c) == p for c, p in zip(groups["caption"], groups["prompt"], strict=True))
    for name in (HAT, COAT):
        mean = groups["weight"][groups["prompt"] == name].mean()
        assert mean == pytest.approx(1, abs=1e-5), "weights are balanced within the group"


def test_discovery_says_how_and_who_speaks_for_a_group(by_column):
    found = read_json(by_column[0].path / "discovery.json")
    assert found["prompt_groups"] == {"by": "column", "count": 2, "silhouettes": {}}
    for name, entry in found["prompts"].items():
        assert entry["captions"] == 45
        assert len(set(entry["representatives"])) == 8
        assert {garment_of(caption) for caption in entry["representatives"]} == {name}


def test_training_balances_the_group_under_the_own_captions(by_column):
    mixture = load_mixture(session_of(by_column[0]))
    groups = table(by_column[0].path / "groups.parquet")
    assert mixture.prompt.tolist() == groups["caption"].tolist()
    assert mixture.pool.tolist() == groups["prompt"].tolist()


def test_pictures_of_a_group_are_drawn_with_its_captions_in_turn(by_column):
    run, _ = by_column
    (run.path / "training.json").write_text(json.dumps({"skipped": True}))
    parts = sampling_parts(session_of(run))
    (run.path / "training.json").unlink()
    assert {part.prompt for part in parts} == {HAT, COAT}
    for part in parts:
        assert part.captions == session_of(run).results.discovery.captions_drawn[part.prompt]
        assert [part.caption(index) for index in (0, 7, 8)] == [
            part.captions[0], part.captions[7], part.captions[0],
        ]  # fmt: skip


def test_a_column_that_repeats_the_captions_changes_nothing(world, finished, tmp_path):
    run = world.open(tmp_path / "run", "data.group_column='caption'")
    do_stage(run, "discover")
    for name in ("groups.parquet", "scores.parquet", "group_model.safetensors"):
        assert (run.path / name).read_bytes() == (finished / name).read_bytes()


# By meaning


@pytest.fixture
def garments_mean_something(monkeypatch):
    """Meanings that only tell the garments apart, and hardly the rest."""

    def made_up(session, texts):
        draw = np.random.default_rng(0)
        sides = np.array(
            [[1.0, 0, 0, 0] if garment_of(text) == HAT else [0, 1.0, 0, 0] for text in texts]
        )
        return (sides + 0.05 * draw.normal(size=sides.shape)).astype(np.float32)

    monkeypatch.setattr(prompt_groups, "text_embeddings", made_up)


def test_captions_that_mean_alike_are_one_group(own, tmp_path, garments_mean_something, caplog):
    run = own.open(tmp_path / "run")
    samples = session_of(run).samples
    grouped = group_prompts(session_of(run))
    assert grouped.way == "meaning"
    assert grouped.samples.caption == samples.caption
    assert grouped.samples.sample_id == samples.sample_id
    names = dict(zip(grouped.samples.prompt, map(garment_of, samples.caption), strict=True))
    assert sorted(names.values()) == sorted((HAT, COAT))
    assert set(names) == {texts[0] for texts in grouped.representatives.values()}
    assert grouped.record()["silhouettes"] == {"2": pytest.approx(0.9, abs=0.1)}
    assert "90 captions of 90 pictures were put into 2 prompt groups by meaning" in caplog.text


def test_meanings_are_the_text_encoders_and_are_kept(own, tmp_path):
    run = own.open(tmp_path / "run")
    samples = session_of(run).samples
    texts = sorted(set(samples.caption))
    found = encode.text_embeddings(session_of(run), texts)
    assert np.array_equal(found, denoiser(own).text_embedding(texts).numpy())
    assert [path.name for path in run.path.rglob("meanings-*")] == ["meanings-00000.safetensors"]


@pytest.mark.parametrize(
    ("settings", "captions", "way"),
    [
        ({}, ["a"] * 50 + ["b"] * 50, "caption"),
        ({}, ["a"] * 50 + [f"{k}" for k in range(50)], "caption"),
        ({}, ["a"] * 50 + [f"{k}" for k in range(51)], "meaning"),
        ({}, ["a"] * 39 + ["b"] * 39, "meaning"),
        ({"group_column": "job"}, ["a"] * 50, "column"),
        ({"prompt_groups": "meaning"}, ["a"] * 50, "meaning"),
        ({"prompt_groups": "caption"}, [f"{k}" for k in range(50)], "caption"),
    ],
)
def test_auto_takes_captions_when_half_of_the_images_share_one(settings, captions, way):
    section = configuration.load({"data": {"path": "x", **settings}}).data
    assert way_of(section, captions) == way


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"prompt_groups": "column"}, 'data.group_column: data.prompt_groups = "column" needs it'),
        (
            {"prompt_groups": "meaning", "group_column": "job"},
            'data.group_column: data.prompt_groups = "meaning" does not read it; leave one out',
        ),
        ({"path": "faces", "quarantine": "x.csv"}, "data.quarantine: is for data of your own"),
    ],
)
def test_settings_that_do_not_go_together(data, message):
    with pytest.raises(ConfigError) as caught:
        configuration.load({"data": {"path": "x"} | data})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("way", "advised"), [("meaning", False), ("auto", False), ("caption", True)]
)
def test_nothing_is_advised_that_is_set_already(way, advised):
    config = configuration.load(None, [f"data.prompt_groups={way}"])
    samples = prompt_groups.Samples(("a", "b"), ("x", "y"), lambda _: None)
    with pytest.raises(DataError, match="the most frequent one has 1") as caught:
        scoring.run_passes(SimpleNamespace(config=config), samples)
    assert ('set data.prompt_groups = "meaning"' in str(caught.value)) == advised


def test_one_of_a_thing_is_told_as_one(tmp_path, monkeypatch, caplog):
    samples = prompt_groups.Samples(("a",), ("x",), lambda _: None)
    config = configuration.load(None, ["data.prompt_groups=auto"])
    monkeypatch.setattr(prompt_groups, "text_embeddings", lambda *_: np.ones((1, 2)))
    monkeypatch.setattr(prompt_groups, "warn_of_cut", lambda *_: 0)
    group_prompts(
        SimpleNamespace(config=config, samples=samples, denoiser=SimpleNamespace(reader=None))
    )
    told = "1 caption of 1 picture were put into 1 prompt group by meaning"
    assert told in caplog.text
