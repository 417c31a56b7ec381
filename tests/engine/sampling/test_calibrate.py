"""The strength that is enough: which one is recommended, and from what."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from invdiff.core.groups.two_groups import GroupModel
from invdiff.engine.discovery.groups import load_models
from invdiff.engine.discovery.passes import Features
from invdiff.engine.run.records import Discovery
from invdiff.engine.sampling import calibrate as stage
from invdiff.engine.sampling import group_shares
from invdiff.engine.sampling.calibrate import calibrate, calibration_summary, estimate_gap
from invdiff.engine.sampling.group_shares import log_ratios
from invdiff.engine.sampling.sampler import Sampler
from invdiff.engine.storage.files import read_json
from invdiff.engine.workflow import session_of
from invdiff.model.lora import adapter
from tests import tiny_world
from tests.tiny_world import COAT, HAT, copy_of, denoiser


@pytest.fixture
def gaps(world, finished, monkeypatch):
    """The recommendation when the strengths have these gaps; which of them were tried."""

    def recommend(table, tolerance=0.1, past=9.0, shown=None):
        tried = []

        def estimate(run, prompts, strength):
            tried.append(strength)
            gap = table.get(strength, 0.3)
            above = gap if strength > past else -gap
            own = {HAT: {"shown": (shown or {}).get(strength, 60), "images": 64}}
            return {"strength": strength, "gap": gap, "above": above, "own_prompt": own}

        monkeypatch.setattr(stage, "estimate_gap", estimate)
        run = world.open(finished)
        section = run.config.calibrate.model_copy(
            update={"strengths": sorted(table), "tolerance": tolerance}
        )
        run.config = run.config.model_copy(update={"calibrate": section})
        record = calibrate(session_of(run))
        assert [point.strength for point in record.curve] == sorted(tried)
        return record.strength, sorted(tried)

    return recommend


def test_the_smallest_that_is_enough_is_taken(gaps):
    table = {0.0: 0.8, 0.5: 0.2, 0.75: 0.1, 1.0: 0.05, 1.5: 0.0}
    assert gaps(table) == (0.75, [0.0, 0.5, 0.75, 1.0]), "downwards from 1"
    assert gaps(table | {0.5: 0.05}) == (0.5, [0.0, 0.5, 0.75, 1.0])
    assert gaps(table | {0.75: 0.2, 0.5: 0.05}) == (1.0, [0.0, 0.75, 1.0])
    assert gaps(table, shown={0.75: 30})[0] == 1.0, "0.75 loses the prompts"
    assert gaps(table, shown={1.0: 30})[0] == 0.75, "1 does"


def test_above_1_the_smallest_that_is_enough_is_taken_and_no_larger_one_is_tried(gaps):
    table = {0.0: 0.8, 0.5: 0.3, 1.0: 0.2, 1.25: 0.09, 1.5: 0.02}
    assert gaps(table) == (1.25, [0.0, 0.5, 1.0, 1.25])


def test_the_base_model_is_not_what_is_enough(gaps):
    """Where its shares are within tolerance by chance, too."""
    assert gaps({0.0: 0.09, 0.5: 0.3, 1.0: 0.0}) == (1.0, [0.0, 0.5, 1.0])


def test_a_strength_that_loses_the_prompts_is_not_taken(gaps):
    """However even its groups are: hats that have become headbands are no balanced hats."""
    table = {0.0: 0.8, 1.0: 0.3, 1.5: 0.02}
    assert gaps(table)[0] == 1.5
    assert gaps(table, shown={1.5: 30})[0] == 1.0
    assert gaps(table, shown={1.0: 30, 1.5: 10})[0] == 0.0, "the base model is left"
    assert gaps(table, shown={1.5: 57})[0] == 1.5, "three of 64 are chance"


def test_otherwise_the_one_with_the_smallest_gap(gaps):
    assert gaps({0.0: 0.8, 0.5: 0.3, 1.0: 0.4, 1.5: 0.5})[0] == 0.5


def test_between_two_that_err_on_either_side_one_more_is_tried(gaps):
    """At 1 the groups lack 0.2, at 1.25 they have 0.6 too much: a quarter of the way."""
    table = {0.0: 0.8, 0.5: 0.7, 1.0: 0.2, 1.25: 0.6}
    assert gaps(table, past=1.0) == (1.0, [0.0, 0.5, 1.0, 1.06, 1.25])
    assert gaps(table | {1.06: 0.05}, past=1.0)[0] == 1.06


def test_between_two_nothing_is_tried_where_one_of_the_grid_is_enough(gaps):
    table = {0.0: 0.8, 0.5: 0.05, 1.0: 0.4, 1.5: 0.5}
    assert gaps(table, past=0.7) == (0.5, [0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("above", "expected"),
    [
        ({0.0: -0.4, 1.0: -0.1}, None),  # never enough
        ({0.0: -0.4, 0.5: -0.1, 1.0: 0.1, 1.5: -0.1}, 0.75),  # the first of two crossings
        ({0.0: -0.4, 1.0: 0.0, 1.5: 0.1}, None),  # as wanted on average, but not prompt by prompt
    ],
)
def test_where_the_groups_are_as_wanted_on_average(above, expected):
    assert stage.between({s: {"above": value} for s, value in above.items()}) == expected


def test_one_strength_needs_no_search(gaps):
    assert gaps({1.0: 0.9}) == (1.0, [])


def test_nothing_found_needs_no_search(gaps, monkeypatch):
    monkeypatch.setattr(Discovery, "found", [])
    assert gaps({0.0: 0.8, 1.0: 0.4}) == (1.0, [])


def sharp(prior=0.0):
    """Groups that one feature tells apart without doubt."""
    return GroupModel(np.array([1.0]), (0.0, 30.0, 0.0), prior)


@pytest.mark.parametrize("prior", [0.0, -3.0])
def test_shares_are_those_of_the_pictures_whatever_the_training_images_had(prior):
    models = {HAT: sharp(prior), COAT: sharp(prior)}
    ratios = {HAT: models[HAT].log_ratio(np.array([[1.0]] * 3 + [[-1.0]])), COAT: np.array([-30.0])}
    found = calibration_summary(ratios, models)
    assert found["shares"][HAT] == pytest.approx(0.75, abs=1e-6)
    assert found["shares"][COAT] == pytest.approx(0, abs=1e-6)
    assert found["gap"] == pytest.approx((0.5 + 1) / 2, abs=1e-6)
    assert found["images"] == 5
    assert found["above"] == pytest.approx((0.25 - 0.5) / 2, abs=1e-6)


def test_the_gap_is_that_from_the_share_that_is_wanted():
    ratios = {HAT: np.array([30.0] * 3 + [-30.0] * 7)}
    found = calibration_summary(ratios, {HAT: sharp()}, wanted=0.3)
    assert found["gap"] == pytest.approx(0, abs=1e-6)
    assert calibration_summary(ratios, {HAT: sharp()}, wanted=0.4)["gap"] == pytest.approx(
        0.2, abs=1e-6
    )


def test_the_interval_is_about_as_wide_as_chance():
    draw = np.random.default_rng(0)
    ratios = {HAT: np.where(draw.random(400) < 0.9, 30.0, -30.0)}
    found = calibration_summary(ratios, {HAT: sharp()})
    assert found["low"] < found["gap"] < found["high"]
    width = 2 * 2 * 1.96 * np.sqrt(0.9 * 0.1 / 400)  # of |2 share - 1|
    assert found["high"] - found["low"] == pytest.approx(width, rel=0.3)
    again = calibration_summary(ratios, {HAT: sharp()})
    assert again == found


def test_the_stored_models_say_what_the_table_of_groups_says(world, finished):
    """From the latents of the data to q_1, through the file that calibration reads."""
    run = world.open(finished)
    models = load_models(run.path / "group_model.safetensors")
    assert set(models) == {HAT, COAT}
    path = next((run.path / "cache").glob("*/features-00000.safetensors"))
    features = tiny_world.tensors(path)["feature"].double().numpy()
    groups = tiny_world.table(run.path / "groups.parquet")
    for name, model in models.items():
        rows = groups["prompt"] == name
        assert roc_auc_score(groups["q_1"][rows] > 0.5, model(features[rows])) > 0.9


def test_generated_pictures_are_judged_like_the_data(world, monkeypatch):
    """The features of what is drawn, at the guidance scale asked for, with its owner's seeds."""
    settings = ("calibrate.images_per_prompt=3", "study.feature_levels=[0.3,0.6]")
    config, scale = world.config(*settings), 1.5
    monkeypatch.setattr(group_shares, "BATCH", 2)
    model = denoiser(world)
    linear = GroupModel(np.ones(2 * 32 * 4) / 50, (0.1, 1.0, 0.0), 0.0)
    drawn = (config, model, None, 0.0, {HAT: linear}, {HAT: [HAT]})
    found = log_ratios(*drawn, scale=scale, owner="test", title="")[HAT]
    seeds = [group_shares.seed_of(config.seed, f"test {HAT}", k) for k in range(3)]
    sampler = Sampler(model, None, 0.0, (0.0, 1.0), scale, 2)
    latents = torch.cat([sampler.latents([HAT] * len(s), s) for s in (seeds[:2], seeds[2:])])
    features = Features(model, config.seed, (0.3, 0.6), 1, 32)(latents)["feature"].double().numpy()
    np.testing.assert_allclose(found, linear.log_ratio(features), rtol=1e-4)
    other = log_ratios(*drawn, scale=scale, owner="another", title="")[HAT]
    assert not np.allclose(found, other)


def test_pictures_of_an_adapted_network_are_judged_by_the_base(world):
    """Looking back draws with the adapter in the network; what it draws is read without."""
    settings = ("calibrate.images_per_prompt=3", "study.feature_levels=[0.3,0.6]")
    config, model = world.config(*settings), denoiser(world)
    linear = GroupModel(np.ones(2 * 32 * 4) / 50, (0.1, 1.0, 0.0), 0.0)
    adapter.add_lora(model.module, 2, seed=0)
    for number, weight in enumerate(adapter.parameters(model.module)):
        torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(number))
    drawn = (config, model, None, 1.0, {HAT: linear}, {HAT: [HAT]})
    found = log_ratios(*drawn, scale=1.5, owner="test", title="")[HAT]
    seeds = [group_shares.seed_of(config.seed, f"test {HAT}", k) for k in range(3)]
    latents = Sampler(model, None, 1.0, (0.0, 1.0), 1.5, 2).latents([HAT] * 3, seeds)
    features = Features(model, config.seed, (0.3, 0.6), 1, 32)
    adapted = linear.log_ratio(features(latents)["feature"].double().numpy())
    adapter.remove(model.module)
    base = linear.log_ratio(features(latents)["feature"].double().numpy())
    assert not np.allclose(adapted, base, rtol=0.1)
    np.testing.assert_allclose(found, base, rtol=1e-4)


def test_strength_zero_is_the_base_and_one_is_the_adapter(world, finished, tmp_path):
    run = world.open(copy_of(finished, tmp_path / "run"))
    (prompt, *_) = session_of(run).results.discovery.found
    curve = read_json(run.path / "adapter" / "calibration.json")["curve"]
    assert [point["strength"] for point in curve] == [0.0, 1.0]
    assert (
        estimate_gap(session_of(run), [prompt], 1.0)["shares"][prompt] == curve[1]["shares"][prompt]
    )
    (run.path / "adapter" / "pytorch_lora_weights.safetensors").unlink()
    assert (
        estimate_gap(session_of(run), [prompt], 0.0)["shares"][prompt] == curve[0]["shares"][prompt]
    )


def test_a_logistic_model_is_what_share_inverts():
    """Planted truth: two Gaussians, 20 % of the second; the share comes out."""
    draw = np.random.default_rng(1)
    member = draw.random(4000) < 0.2
    values = draw.normal(member * 2.0, 1.0)
    model = GroupModel(np.array([1.0]), (-2.0, 2.0, 0.0), 0.0)  # log N(x; 2, 1) / N(x; 0, 1)
    assert model.share(model.log_ratio(values[:, None])) == pytest.approx(0.2, abs=0.02)
    assert expit(model.log_ratio(np.array([[1.0]])))[0] == pytest.approx(0.5)
