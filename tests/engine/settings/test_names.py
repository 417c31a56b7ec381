"""Wrong names of settings: those of earlier versions, of other trainers, and hidden ones."""

import tomllib

import pytest

from invdiff.app.cli import main
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings import schema
from invdiff.engine.settings.names import ALIASES, REMOVED, RENAMED, UNLISTED
from invdiff.errors import ConfigError, InvDiffWarning, RunError

KEYS = {key for key, _ in configuration.fields()}
OLD = """
seed = 3
[discover]
estimator = "top_loss"
certainty = 2.0
adaptive = false
most_draws = 8
against_share = 0.3
target = []
false_alarm = 0.02
[train]
batch = 6
objective = "groupdro"
loss_space = "v"
optimiser = "adafactor"
[sample]
arms = ["base"]
batch = 7
[report]
title = "Ours"
[baselines]
prompt_suffix = ", diverse"
"""


def problems_of(*overrides):
    with pytest.raises(ConfigError) as caught:
        configuration.load(None, overrides)
    return caught.value.problems


def test_the_tables_lead_to_settings_that_are_there():
    assert set(RENAMED.values()) <= KEYS
    assert {target for target in ALIASES.values() if not target.startswith("--")} <= KEYS
    every = set(configuration.flatten(schema.Config()))
    assert set(UNLISTED.values()) <= every
    assert not every & {*RENAMED, *UNLISTED, *REMOVED}


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_user_is_told_the_name_of_today(old, new):
    assert problems_of(f"{old}=1") == (f"--{old} is now --{new}",)
    section, name = old.split(".")
    with pytest.raises(ConfigError) as caught:
        configuration.load({section: {name: 1}})
    assert caught.value.problems == (f"{old} is now {new}",)


@pytest.mark.parametrize("gone", ["train.loss_space", "discover.certainty", "sample.fuse"])
def test_what_is_gone_is_said_to_be(gone):
    assert problems_of(f"{gone}=1") == (f"--{gone} is no setting any more: leave it out",)


def test_one_share_has_become_both():
    (told,) = problems_of("discover.against_share=0.3")
    assert (
        told == "--discover.against_share is now --discover.target: both shares, as in [0.7, 0.3]"
    )


@pytest.mark.parametrize("section", ["report", "baselines"])
def test_sections_that_are_gone_are_said_to_be(section):
    with pytest.raises(ConfigError, match=f"{section} is no setting any more"):
        configuration.load({section: {"title": "Faces"}})


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lr", "--train.learning_rate"),
        ("train.lr", "--train.learning_rate"),
        ("max_train_steps", "--train.steps"),
        ("num_train_steps", "--train.steps"),
        ("train_batch_size", "--train.batch_size"),
        ("lora_rank", "--train.rank"),
        ("rank", "--train.rank"),
        ("num_inference_steps", "--sample.steps"),
        ("sample.guidance_scale", "--sample.guidance_scales"),
        ("resolution", "--data.image_size"),
        ("mixed_precision", "--model.dtype"),
        ("output_dir", "--out"),
        ("resume_from_checkpoint", "--out"),
    ],
)
def test_the_names_of_other_trainers_are_known(word, meant):
    assert problems_of(f"{word}=1") == (f"--{word}: no such setting; did you mean {meant}?",)


def test_a_weighting_that_is_not_needed_is_said_to_be():
    assert "the loss is that of v" in problems_of("snr_gamma=5.0")[0]


@pytest.mark.parametrize("words", [["--lr", "1e-4"], ["--max_train_steps=3"]])
def test_the_command_knows_them_too(words, capsys):
    assert main(["config", *words]) == 2
    assert "did you mean --train." in capsys.readouterr().err


# Runs of earlier versions


def run_of(folder, text):
    (folder / "stages").mkdir(parents=True)
    (folder / "config.toml").write_text(text)
    (folder / "events.jsonl").touch()
    (folder / "environment.json").write_text("{}")
    return folder


def test_a_run_with_earlier_names_is_read_with_one_line(tmp_path):
    run_of(tmp_path / "run", OLD)
    with pytest.warns(InvDiffWarning) as told:
        config = RunFolder.read(tmp_path / "run").config
    assert len(told) == 1
    for words in ("earlier names", "train.batch -> train.batch_size", "discover.against_share ->"):
        assert words in str(told[0].message)
    assert config.seed == 3
    assert (config.estimator, config.study.objective) == ("top_loss", "groupdro")
    assert (config.study.certainty, config.study.arms) == (2.0, ["base"])
    assert (config.train.batch_size, config.sample.batch_size) == (6, 7)
    assert config.train.optimizer == "adafactor"
    assert config.discover.target == [0.7, 0.3]
    assert config.discover.false_positive_rate == 0.02


@pytest.mark.filterwarnings("default")
def test_the_command_says_it_too_and_goes_on(tmp_path, capsys):
    run_of(tmp_path / "run", OLD)
    assert main(["train", "--out", str(tmp_path / "run")]) == 1  # discovery is not done
    told = capsys.readouterr().err
    assert told.count("earlier names of settings") == 1
    assert "invdiff: warning: " in told


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('[train]\nloss_space = "epsilon"', "train.loss_space = 'epsilon': this version has 'v'"),
        ("[train]\nkeep_others = false", "train.keep_others = False: this version has True alone"),
        ('[discover]\nestimator = "profile"', "study.estimator: must be one of"),
    ],
)
def test_a_run_made_in_a_way_that_is_gone_is_refused(tmp_path, line, words):
    run_of(tmp_path / "run", line + "\n")
    with pytest.raises(RunError) as caught:
        RunFolder.read(tmp_path / "run")
    assert words in str(caught.value)


def test_a_run_of_today_is_read_without_a_word(tmp_path, recwarn):
    RunFolder.open(tmp_path / "run", configuration.preset("faces-quick"))
    assert RunFolder.read(tmp_path / "run").config == configuration.preset("faces-quick")
    assert not recwarn


# What only comparisons change


def test_what_only_comparisons_change_is_hidden():
    assert not any(key.startswith("study.") for key in KEYS)
    assert "study" not in configuration.dump(schema.Config(), comments=True)
    assert "Study" not in str(configuration.schema())
    assert problems_of("study.estimater=1")[0].endswith("; did you mean --discover.estimator?")
    with pytest.raises(ConfigError) as caught:
        configuration.load({"studies": {}})
    assert caught.value.problems == ("studies: no such setting",)


def test_it_is_kept_where_it_was_changed():
    config = configuration.load(None, ["study.certainty=1.0", "study.arms=['base']"])
    text = configuration.dump(config)
    assert tomllib.loads(text)["study"] == {"certainty": 1.0, "arms": ["base"]}
    assert configuration.load(tomllib.loads(text)) == config
