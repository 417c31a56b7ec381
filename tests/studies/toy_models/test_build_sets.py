"""Building a set: whole or absent, resumable, and then a name like `faces`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from invdiff.data.sets import builtin
from invdiff.data.sets.drawn import digits
from invdiff.data.sets.stored import StoredSet
from invdiff.data.sources import open_samples
from invdiff.engine.base_model import loading
from invdiff.engine.classifiers.choose import choose
from invdiff.engine.distributed import randomness
from invdiff.engine.evaluation import evaluate as evaluation
from invdiff.engine.fitting.simple_loop import Recipe
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.storage.files import read_json
from invdiff.engine.workflow import do_stage
from invdiff.errors import ConfigError, DataError
from invdiff.model.vision.attribute_classifier import AttributeClassifier
from invdiff.studies.benchmarking.jobs import row_settings
from invdiff.studies.benchmarking.suites import OURS
from invdiff.studies.toy_models import networks, sets
from invdiff.studies.toy_models.sets import RECIPES

TINY = Recipe(
    batch=4, save_every=1, autoencoder_channels=(8, 8, 8), autoencoder_steps=2, text_width=16,
    text_layers=1, denoiser_channels=(16, 16), denoiser_steps=2, classifier_steps=2,
)  # fmt: skip
COUNTS = {"train": 12, "balanced": 8}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the tiny digits are, which serve all tests of this file."""
    folder = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(builtin.HOME, str(folder))
        patch.setitem(sets.DRAWS, "digits", lambda _: digits.draw(COUNTS))
        patch.setitem(sets.RECIPES, "digits", TINY)
        sets.make("digits")
        yield folder


def test_a_built_set_is_complete(home):
    folder = home / "digits"
    assert sorted(path.name for path in home.iterdir()) == ["digits"]
    assert {path.name for path in folder.iterdir()} == {
        "train.webp", "train.parquet", "train_attributes.parquet",
        "balanced.webp", "balanced.parquet", "balanced_attributes.parquet",
        "base", "base_recipe.json", "classifier.safetensors",
    }  # fmt: skip
    modes = {path.stat().st_mode for path in folder.rglob("*") if path.is_file()}
    (probe := home.parent / "probe").touch()
    assert modes == {probe.stat().st_mode}
    assert read_json(folder / "base_recipe.json")["recipe"] == TINY.facts()
    assert StableDiffusionPipeline.from_pretrained(folder / "base").unet.config.sample_size == 8
    facts = AttributeClassifier.load(folder / "classifier.safetensors").facts
    assert facts["attribute"] == "background"
    assert facts["trained_on"] == facts["attributes"]["prompt"]["held_out"] == 40


def test_what_is_there_is_not_built_again(home, monkeypatch):
    monkeypatch.setitem(sets.DRAWS, "digits", None)  # calling it would fail
    assert sets.make("digits") == home / "digits"


def test_an_interrupted_build_goes_on(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(sets.DRAWS, "digits", lambda _: digits.draw(COUNTS))
    monkeypatch.setitem(sets.RECIPES, "digits", TINY)
    with monkeypatch.context() as patch:
        patch.setattr(sets, "classify", stopped)
        with pytest.raises(KeyboardInterrupt):
            sets.make("digits", home=tmp_path)
    assert not (tmp_path / "digits").exists()

    fitted = {}
    fit = networks.fit
    monkeypatch.setitem(sets.DRAWS, "digits", None)  # the pictures are drawn already
    monkeypatch.setattr(
        networks, "fit", lambda name, *a, **k: fitted.setdefault(name, fit(name, *a, **k))
    )
    sets.make("digits", home=tmp_path)
    assert (
        len(fitted["denoiser"]) == TINY.denoiser_steps
    )  # the curve of the first call, no step more
    assert (tmp_path / "digits" / "classifier.safetensors").is_file()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["faces", "garments"])
def test_only_sets_of_the_table_are_built(name, tmp_path):
    with pytest.raises(ConfigError, match=r"one of faces-balanced, .*, digits"):
        sets.make(name, home=tmp_path)


def test_every_set_has_a_recipe_a_drawing_and_a_preset():
    assert set(RECIPES) == set(builtin.SETS)
    assert set(sets.DRAWS) == set(builtin.SETS) - {"faces"}
    for name in sets.DRAWS:
        chosen = row_settings(name, OURS, 0)
        assert (chosen.model.path, chosen.data.path) == (name, name)


def test_a_recipe_can_begin_with_the_weights_of_another_set():
    recipe = replace(TINY, start="faces")
    base = StableDiffusionPipeline.from_pretrained(builtin.set_folder("faces") / "base")
    unet, vae = networks.build_denoiser(recipe, 8), networks.build_autoencoder(recipe, 32)
    for own, there in ((unet, base.unet), (vae, base.vae)):
        assert own.dtype == torch.float32
        pairs = zip(own.parameters(), there.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_an_autoencoder_can_serve_as_it_is(tmp_path):
    recipe = replace(TINY, start="faces", autoencoder_steps=0)
    images = torch.rand(8, 3, 32, 32) * 2 - 1
    model, curve = networks.train_autoencoder(recipe, images, tmp_path)
    assert curve == sets.thin(curve) == []
    start = networks.build_autoencoder(recipe, 32)
    assert all(map(torch.equal, model.parameters(), start.parameters()))


def test_a_set_that_was_not_built_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv(builtin.HOME, str(tmp_path))
    with pytest.raises(DataError, match="`invdiff data build digits`"):
        loading.load_pipeline(loading.ModelRef("digits", "cpu", "float32"))
    with pytest.raises(DataError, match="`invdiff data build digits`"):
        choose(configuration.preset("digits"))


def test_a_run_on_a_built_set_measures_with_its_own_classifier(home, tmp_path):
    config = configuration.preset(
        "digits",
        [
            "processes=1", "data.min_images=8", "discover.images_per_prompt=8",
            "discover.estimator='labels'", "discover.levels=[0.9]", "study.feature_levels=[0.3]",
            "train.steps=2", "train.batch_size=4", "train.rank=2", "train.share_feedback=[]",
            "calibrate.strengths=[1.0]", "sample.images_per_prompt=2", "sample.steps=1",
            "sample.guidance_scales=[1.0]",
        ],
    )  # fmt: skip
    run = RunFolder.open(tmp_path / "run", config)
    for stage in STAGES[:-1]:
        do_stage(run, stage)
    metrics = read_json(run.path / "metrics.json")
    assert metrics["protocol"]["name"] == "digits"
    assert metrics["protocol"]["attribute"] == "background"
    assert metrics["protocol"]["references"] == {"balanced": 40, "training": 120}
    shares = metrics["arms"]["base"]["1.0"]["shares"]
    assert len(shares) == 10
    assert set(shares["the digit two"]) == {"blue", "orange"}
    assert metrics["groups_vs_labels"]["auc"]["the digit two"] == 1.0  # they are the labels


def test_the_reference_is_the_sets_own_balanced_split(home):
    stored = StoredSet(home / "digits")
    classifier = AttributeClassifier.load(home / "digits" / "classifier.safetensors")
    data = open_samples("digits", 32)
    found = evaluation.real_pictures(configuration.preset("digits"), data, classifier)
    unseen = randomness.halves(80, classifier.facts["split_seed"])[1]
    assert np.allclose(
        found["balanced"], classifier.features(stored.pictures("balanced")[unseen]), atol=1e-5
    )
