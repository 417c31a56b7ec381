"""More than two groups of a prompt through all stages, with the labels of the data as groups."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from invdiff.app.api import Run
from invdiff.engine.augmentation import augment as augmenting
from invdiff.engine.discovery.groups import load_models, wanted_mix
from invdiff.engine.evaluation.label_agreement import compare_with_labels
from invdiff.engine.settings import config as configuration
from invdiff.engine.storage.files import read_json
from invdiff.engine.training.min_step import MinStep
from invdiff.engine.training.train import load_mid_training_check, load_mixture
from invdiff.engine.workflow import do_stage, session_of
from invdiff.errors import ConfigError
from tests import tiny_world
from tests.tiny_world import COAT, HAT

SHOE = "a shoe"
COLOURS = {"warm": (200, 60, 40), "cold": (40, 60, 200), "green": (50, 190, 60)}
COUNTS = {
    HAT: {"warm": 18, "cold": 12, "green": 6},
    COAT: {"green": 18, "warm": 12, "cold": 6},
    SHOE: {"cold": 27, "green": 9},  # has no warm ones
}
ORACLE = ("study.estimator='labels'", "data.label_column='colour'", "data.min_images=30")
TRAINED = (
    "train.steps=9",
    "train.batch_size=32",
    "train.share_feedback=[0.6]",
    "train.checkpointing_steps=20",
)


@pytest.fixture(scope="module")
def coloured(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coloured")
    draw, rows = np.random.default_rng(0), []
    for prompt, counts in COUNTS.items():
        for colour, count in counts.items():
            for k in range(count):
                name = f"{prompt[2:]}-{colour}-{k:02d}.png"
                picture = np.array(COLOURS[colour]) + draw.normal(0, 12, (16, 16, 3))
                Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / name)
                rows.append({"file_name": name, "caption": prompt, "colour": colour})
    tiny_world.write_metadata(folder, rows)
    return replace(world, data=folder)


@pytest.fixture(scope="module")
def complete(coloured, tmp_path_factory):
    """A run with every stage done; look, don't touch."""
    run = Run(tmp_path_factory.mktemp("several") / "run", coloured.config(*ORACLE, *TRAINED))
    run.run_all()
    return coloured.open(run.path, *ORACLE, *TRAINED)


def colours_of(run):
    """The label of each row of the groups, which are told from the pictures' own rows."""
    samples = session_of(run).samples
    with open(f"{run.config.data.path}/metadata.csv", newline="", encoding="utf-8") as stream:
        listed = [row["colour"] for row in csv.DictReader(stream)]
    colour = dict(zip(samples.sample_id, listed, strict=True))
    return lambda groups: np.array([colour[one] for one in groups["sample_id"]])


def test_the_weighted_shares_of_three_labels_are_even_in_every_prompt(complete):
    groups = tiny_world.table(complete.path / "groups.parquet")
    assert [name for name in groups if name.startswith("q_")] == ["q_0", "q_1", "q_2"]
    colours = colours_of(complete)(groups)
    for prompt, counts in COUNTS.items():
        rows = groups["prompt"] == prompt
        total = {c: groups["weight"][rows & (colours == c)].sum() for c in counts}
        assert list(total.values()) == pytest.approx([36 / len(counts)] * len(counts))
        assert groups["weight"][rows].mean() == pytest.approx(1)
        for group, colour in enumerate(counts):  # from the most frequent on
            assert (colours[rows & (groups["group"] == group)] == colour).all()
            assert (groups[f"q_{group}"][rows & (colours == colour)] == 1).all()


def test_the_record_names_the_groups(complete):
    entries = read_json(complete.path / "discovery.json")["prompts"]
    hat, shoe = entries[HAT], entries[SHOE]
    assert [group["label"] for group in hat["groups"]] == ["warm", "cold", "green"]
    assert [group["share"] for group in hat["groups"]] == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    assert [group["share"] for group in shoe["groups"]] == pytest.approx([3 / 4, 1 / 4, 0])
    assert shoe["found"]
    assert {"group 0", "group 2", "group 2_error"} <= set(hat["profile"])


def test_every_stage_knows_all_groups(complete):
    training = read_json(complete.path / "training.json")
    assert np.shape(training["regrets"][HAT]) == (3,)
    assert None not in training["regrets"][HAT]
    assert sum(training["aims"][HAT]) == pytest.approx(1)
    assert training["aims"][SHOE][2] == 0, "what the prompt lacks is not aimed at"
    risks = training["certificate"]["after"]["groups"]
    assert len(risks) == 9
    assert [risk["images"] for risk in risks if risk["prompt"] == SHOE] == [27, 9, 0]
    calibration = read_json(complete.path / "adapter" / "calibration.json")
    shares = calibration["curve"][0]["shares"]
    assert {name: len(one) for name, one in shares.items()} == dict.fromkeys(COUNTS, 3)
    page = (complete.path / "report.html").read_text(encoding="utf-8")
    assert "Group 2" in page
    assert "group 1 (cold)" in page


def test_the_groups_are_the_labels(complete):
    found = compare_with_labels(session_of(complete), session_of(complete).samples)
    for figure in ("adjusted_rand", "matched_accuracy", "auc", "balanced_accuracy"):
        assert found["mean"][figure] == 1


def test_stored_models_tell_all_groups(complete):
    model = load_models(complete.path / "group_model.safetensors")[HAT]
    assert model.present.tolist() == [True] * 3
    shoe = load_models(complete.path / "group_model.safetensors")[SHOE]
    assert shoe.present.tolist() == [True, True, False]


def test_regrets_tilt_the_mixture_among_the_groups_that_are_there(complete):
    mixture = load_mixture(session_of(complete))
    objective = MinStep(complete.config, tiny_world.denoiser(complete_world(complete)), mixture)
    objective.regrets.value[:] = [0.0, 0.0, 0.3]
    objective.regrets.value[list(mixture.balanced).index(SHOE)] = [0.0, 0.3, np.nan]
    weights = mixture.weights(objective.regrets, 1.0).numpy()
    for name, wanted in {HAT: [4 / 15, 4 / 15, 7 / 15], SHOE: [0.35, 0.65, 0]}.items():
        rows = mixture.pool == name
        shares = weights[rows] @ mixture.against[rows] / weights[rows].sum()
        np.testing.assert_allclose(shares, wanted, atol=1e-6)


def complete_world(run):
    return tiny_world.World(run.config.model.path, run.config.data.path)


def test_looking_back_asks_for_all_groups(complete, monkeypatch):
    def drawn(*_, **__):
        return {HAT: np.where(np.arange(40)[:, None] < 30, 9.0, -9.0) * [1.0, -1.0]}

    monkeypatch.setattr("invdiff.engine.training.checks.log_ratios", drawn)
    mixture = replace(load_mixture(session_of(complete)), monitored=(HAT,))
    one = MinStep(complete.config, tiny_world.denoiser(complete_world(complete)), mixture)
    one.share_feedback(load_mid_training_check(session_of(complete)), step=3)
    assert one.aims[HAT][1] < one.aims[HAT][2] < one.aims[HAT][0], "group 1 came most, 0 never"


def test_a_set_that_is_evened_out_has_all_groups(complete, tmp_path):
    record = augmenting.augment(session_of(complete), tmp_path / "even", images=4)
    rows = (tmp_path / "even" / "metadata.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].split(",")[4:7] == ["group", "q_1", "q_2"]
    assert record["prompts"][HAT]["synthetic"] == {"0": 1, "1": 1, "2": 2}
    assert record["prompts"][SHOE]["synthetic"] == {"0": 2, "1": 2}


# Settings


def test_a_target_is_what_the_weights_have(coloured, tmp_path):
    run = coloured.open(tmp_path / "run", *ORACLE, "discover.target=[0.5,0.25,0.25]")
    do_stage(run, "discover")
    groups = tiny_world.table(run.path / "groups.parquet")
    for prompt, wanted in {COAT: [0.5, 0.25, 0.25], SHOE: [2 / 3, 1 / 3, 0]}.items():
        rows = groups["prompt"] == prompt
        shares = np.bincount(groups["group"][rows], groups["weight"][rows], 3) / 36
        np.testing.assert_allclose(shares, wanted)
    np.testing.assert_allclose(load_mixture(session_of(run)).wanted, [0.5, 0.25, 0.25])


def test_prompts_that_show_the_target_have_nothing_to_balance(coloured, tmp_path):
    run = coloured.open(tmp_path / "run", *ORACLE, "discover.target=[0.5,0.3,0.2]")
    do_stage(run, "discover")
    entries = read_json(run.path / "discovery.json")["prompts"]
    assert {name: entry["found"] for name, entry in entries.items()} == {
        HAT: False, COAT: False, SHOE: True,
    }  # fmt: skip
    assert "50% and 30% and 20% already" in entries[HAT]["note"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["discover.target=[0.7,0.3]"], "target has 2 shares, and there are 3 groups"),
        (["discover.target=[0.4,0.2,0.2,0.2]"], "target has 4 shares, and there are 3 groups"),
    ],
)
def test_settings_that_do_not_fit_the_labels_are_said_before_any_work(
    coloured, tmp_path, settings, words
):
    run = coloured.open(tmp_path / "run", *ORACLE, *settings)
    with pytest.raises(ConfigError, match=words):
        do_stage(run, "discover")
    assert not (run.path / "cache" / "scores").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["discover.target=[1.0]"], "discover.target: must be empty or shares that add up to 1"),
        (["discover.target=[0.9,0.1]"], "two of at least 0.15"),
        (["discover.target=[0.5,0.3,0.3]"], "add up to 1"),
        (["discover.target=[0.99,0.005,0.005]"], "more of at least 0.02"),
        (["discover.estimator='auto'"], "estimator auto infers two groups"),
        ([f"discover.target={[0.1] * 10}"], "must have at most 8 shares"),
    ],
)
def test_targets_that_cannot_be(settings, words):
    given = ["discover.estimator='labels'", "discover.target=[0.5,0.3,0.2]", *settings]
    with pytest.raises(ConfigError, match=words) as caught:
        configuration.load({}, given)
    assert len(caught.value.problems) == 1


def test_more_labels_than_there_may_be_are_refused(coloured, tmp_path, monkeypatch):
    monkeypatch.setattr("invdiff.engine.discovery.discover.MOST_GROUPS", 2)
    with pytest.raises(ConfigError, match="the column colour has 3 labels, and there may be 2"):
        do_stage(coloured.open(tmp_path / "run", *ORACLE), "discover")


def test_two_shares_are_those_of_two_groups():
    section = configuration.load({}, ["discover.target=[0.7,0.3]"]).discover
    assert wanted_mix(section, 2) == section.wanted_share == 0.3
    assert configuration.load({}, ["discover.target=[0.15,0.85]"]).discover.wanted_share == 0.85


def test_even_shares_are_the_default():
    section = configuration.load({}).discover
    assert wanted_mix(section, 2) == 0.5
    assert wanted_mix(section, 4) == [0.25] * 4
