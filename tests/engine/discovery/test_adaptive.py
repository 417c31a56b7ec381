"""Adaptive scoring: draws where they are needed, the same ones whatever comes between."""

from collections import Counter

import numpy as np
import pytest
import torch

from invdiff.core.discovery.scores import Scores
from invdiff.engine.base_model import cache_keys
from invdiff.engine.discovery.adaptive_draws import Rounds
from invdiff.engine.discovery.discover import discover
from invdiff.engine.discovery.passes import Score
from invdiff.engine.preflight.plan import work_plan
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.deciding_levels import deciding_levels
from invdiff.engine.storage.files import read_json
from invdiff.engine.storage.hashed_tensors import read_about
from tests import tiny_world
from tests.tiny_world import contents, denoiser
from tests.tiny_world import table as columns

RESULTS = ("scores.parquet", "groups.parquet", "group_model.safetensors", "discovery.json")
PROMPT = np.repeat(["a hat", "a coat"], 100)
SPLIT = np.tile([1.0, 0.0], 100)
TO_THE_END = (
    "discover.adaptive=true",
    "discover.enough_reliability=0.999",
    "discover.most_draws=6",
    "discover.levels=[0.95,0.9,0.5]",
)


def section(*overrides):
    given = ["discover.adaptive=true", "discover.levels=[0.95,0.5]", *overrides]
    return configuration.load(overrides=given).discover


def scores(noise, draws, images=200):
    """Excess of a truth of variance 1 and noise of the given size, for each level."""
    random = np.random.default_rng(0)
    truth = random.normal(size=(images, 1))
    values = [truth + size * random.normal(size=(images, draws)) for size in noise]
    loss = np.stack(values, 1).astype(np.float32)
    return Scores(loss, np.zeros_like(loss))


# The rule


def test_a_reliable_score_gets_no_more_draws():
    rounds = Rounds(section(), PROMPT)
    assert rounds.take(scores([0.01, 0.01], 2), SPLIT, set()) == []
    assert rounds.stopped == "reliable"
    assert rounds.record()["agreement"] == [None]


def test_only_unreliable_levels_that_decide_get_more():
    noisy = scores([0.01, 3.0], 2)
    assert Rounds(section(), PROMPT).take(noisy, SPLIT, set()) == []
    assert Rounds(section("discover.estimator='profile'"), PROMPT).take(noisy, SPLIT, set()) == [1]
    swapped = scores([3.0, 0.01], 2)
    assert Rounds(section(), PROMPT).take(swapped, SPLIT, set()) == [0]
    unread = Rounds(section("discover.estimator='random'"), PROMPT)
    assert unread.take(scores([3.0, 3.0], 2), SPLIT, set()) == []
    assert unread.stopped == "not read"


def test_the_score_that_is_judged_is_the_one_that_the_estimator_reads():
    """Where the same noise is in both losses the excess is reliable and the plain loss is not."""
    noise = np.random.default_rng(1).normal(size=(200, 2, 2)).astype(np.float32)
    found = scores([0.01, 0.01], 2)
    cancelling = Scores(found.loss + 9 * noise, 9 * noise)
    top_loss = section("discover.estimator='top_loss'")
    assert Rounds(section(), PROMPT).take(cancelling, SPLIT, set()) == []
    assert Rounds(top_loss, PROMPT).take(cancelling, SPLIT, set()) == [0, 1]


def test_groups_that_stay_the_same_end_the_rounds():
    rounds = Rounds(section(), PROMPT)
    assert rounds.take(scores([3.0, 1.0], 2), SPLIT, {"a hat"}) == [0]
    nearly = SPLIT.copy()
    nearly[:3] = 1 - nearly[:3]  # 3 of 100 in one prompt: 0.985 on average
    assert rounds.take(scores([3.0, 1.0], 4), nearly, {"a hat"}) == [0]
    assert rounds.take(scores([3.0, 1.0], 6), nearly, set()) == [0], "another verdict"
    assert rounds.take(scores([3.0, 1.0], 7), nearly, set()) == []
    assert rounds.stopped == "same groups"
    assert rounds.agreement == [None, pytest.approx(0.985), 1.0, 1.0]
    generous = Rounds(section("discover.enough_agreement=0.98"), PROMPT)
    generous.take(scores([3.0, 1.0], 2), SPLIT, set())
    assert generous.take(scores([3.0, 1.0], 4), nearly, set()) == []


def test_the_most_draws_are_the_end():
    rounds = Rounds(section("discover.most_draws=5"), PROMPT)
    spent = [2]
    while unsure := rounds.take(scores([9.0, 1.0], spent[-1]), SPLIT[:: (-1) ** len(spent)], set()):
        draws = rounds.next_draws(unsure[0])
        assert draws.start == spent[-1]
        spent.append(draws.stop)
    assert spent == [2, 4, 5]
    assert rounds.stopped == "most draws"


@pytest.mark.parametrize(
    ("estimator", "levels", "expected"),
    [
        ("semantic", [0.98, 0.5, 0.9], [0, 2]),
        ("amortised", [0.3, 0.5], [1]),
        ("profile", [0.98, 0.5], [0, 1]),
        ("top_loss", [0.98, 0.5], [0, 1]),
        ("none", [0.98, 0.5], []),
    ],
)
def test_which_levels_decide(estimator, levels, expected):
    settings = [f"discover.estimator='{estimator}'", f"discover.levels={levels}"]
    assert deciding_levels(configuration.load(overrides=settings).discover) == expected


# On disk


@pytest.fixture
def thorough(monkeypatch):
    """Rounds go on to the last draw, over 90 pictures in two shards."""
    go_on_to_the_end(monkeypatch)


@pytest.fixture(scope="module")
def adapted(world, tmp_path_factory):
    """A discovery whose deciding levels got all the draws that they may have."""
    run = world.open(tmp_path_factory.mktemp("adapted") / "run", *TO_THE_END)
    with pytest.MonkeyPatch.context() as patched:
        go_on_to_the_end(patched)
        discover(run)
    return run


def go_on_to_the_end(patched):
    patched.setattr(cache_keys, "SHARD", 45)
    patched.setattr("invdiff.engine.discovery.adaptive_draws.group_agreement", lambda *_: 0.5)


def test_the_record_says_what_was_spent_and_why_it_stopped(adapted):
    told = read_json(adapted.path / "discovery.json")
    rounds = told["adaptive"]
    assert rounds["stopped"] == "most draws"
    assert rounds["agreement"] == [None, 0.5, 0.5]
    assert [one["draws"] for one in rounds["levels"]] == [[2, 4, 6], [2, 4, 6], [2, 2, 2]]
    assert [one["decides"] for one in rounds["levels"]] == [True, True, False]
    assert [one["passes"] for one in rounds["levels"]] == [90 * 6 * 2, 90 * 6 * 2, 90 * 2 * 2]
    assert rounds["passes"] == sum(one["passes"] for one in rounds["levels"])
    last = [one["reliability"][-1] for one in rounds["levels"]]
    assert last == told["reliability"]
    assert len({tuple(one["reliability"]) for one in rounds["levels"][:2]}) == 2
    assert len(set(rounds["levels"][2]["reliability"])) == 1


def test_the_scores_are_means_over_the_draws_of_each_level(adapted, world, tmp_path):
    """They are those of a discovery that had as many draws from the beginning."""
    found = columns(adapted.path / "scores.parquet")
    for draws, levels in ((6, (0.95, 0.9)), (2, (0.5,))):
        same = world.open(tmp_path / f"{draws}", f"discover.draws={draws}", TO_THE_END[-1])
        discover(same)
        expected = columns(same.path / "scores.parquet")
        rows = np.isin(found["level"], levels)
        for name in ("loss", "excess"):
            np.testing.assert_allclose(
                found[name][rows], expected[name][rows], rtol=1e-4, atol=1e-7
            )


def test_an_interrupted_round_goes_on_and_computes_only_what_is_new(
    adapted, thorough, world, tmp_path, monkeypatch
):
    did, scored = Counter(), Score.__call__

    def counted(self, shard):
        if sum(did.values()) == 3:
            did["interrupted"] += 1
            raise KeyboardInterrupt
        did[self.levels, self.first, self.draws] += 1
        return scored(self, shard)

    monkeypatch.setattr(Score, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        discover(world.open(tmp_path / "run", *TO_THE_END))
    again = world.open(tmp_path / "run", *TO_THE_END)
    discover(again)
    assert did == {
        ((0.95, 0.9, 0.5), 0, 2): 2,
        ((0.95, 0.9), 2, 2): 2,
        ((0.95, 0.9), 4, 2): 2,
        "interrupted": 1,
    }
    assert results(again) == results(adapted)
    assert contents(again.path / "cache") == contents(adapted.path / "cache")


def test_two_processes_give_the_same(adapted, thorough, world, tmp_path):
    run = world.open(tmp_path / "run", *TO_THE_END, "processes=2")
    discover(run)
    assert results(run) == results(adapted)


def results(run):
    return {name: (run.path / name).read_bytes() for name in RESULTS}


def test_the_first_round_is_what_is_done_without(world, finished, tmp_path, monkeypatch):
    """The same scores from the same files of the cache; only the record says more."""
    monkeypatch.setattr(
        "invdiff.engine.discovery.adaptive_draws.reliability", lambda *_: np.ones(2)
    )
    run = world.open(tmp_path / "run", "discover.adaptive=true")
    discover(run)
    for name in RESULTS[:3]:
        assert (run.path / name).read_bytes() == (finished / name).read_bytes()
    told = read_json(run.path / "discovery.json")
    assert told.pop("adaptive")["stopped"] == "reliable"
    assert told == read_json(finished / "discovery.json")
    assert contents(run.path / "cache", "scores*") == contents(finished / "cache", "scores*")
    (kept,) = (run.path / "cache").rglob("scores*")
    assert "first" not in (read_about(kept) or {}), "scores of earlier versions are still found"


def test_a_draw_belongs_to_its_number_whichever_is_the_first(world):
    model = denoiser(world)
    clean = torch.randn(3, 4, *[tiny_world.tiny.LATENT] * 2, generator=torch.Generator())
    shard = (clean, [tiny_world.HAT] * 3)
    whole = Score(model, 0, (0.9,), 4, 8)(shard)["loss"]
    later = Score(model, 0, (0.9,), 2, 8, first=2)(shard)["loss"]
    assert torch.equal(whole[:, :, 2:], later)
    assert not torch.equal(whole[:, :, :2], later)


# What is said before


def test_the_plan_says_what_it_may_take_at_most():
    settings = ["discover.images_per_prompt=10", "discover.levels=[0.98,0.9,0.5]"]
    usual, adaptive = (
        work_plan(configuration.load(overrides=[*settings, *more]))[0]
        for more in ([], ["discover.adaptive=true", "discover.most_draws=6"])
    )
    assert adaptive.passes - usual.passes == 4 * 10 * 2 * 4 * 2  # prompts, images, levels, draws
    assert "3 levels x 2 to 6 draws (at most) x 2 conditions" in adaptive.detail
    assert "3 levels x 2 draws x 2 conditions" in usual.detail
    given = [*settings, "discover.adaptive=true", "discover.estimator='random'"]
    assert work_plan(configuration.load(overrides=given))[0].passes == usual.passes
