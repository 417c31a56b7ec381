"""The attribute classifier: its file, its claims, and how it is trained."""

from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from invdiff.data.sets.drawn import faces
from invdiff.engine.fitting import small_classifier
from invdiff.engine.fitting.simple_loop import Recipe
from invdiff.errors import ModelError
from invdiff.model.vision.attribute_classifier import AttributeClassifier, to_input

FILE = Path(str(files("invdiff"))) / "assets/faces/classifier.safetensors"


@pytest.fixture(scope="module")
def embedded():
    return AttributeClassifier.load(FILE)


@pytest.fixture(scope="module")
def some():
    return faces.pictures("balanced")[::125]


def untrained():
    classes = {"shade": ("dark", "light"), "kind": ("a", "b", "c")}
    return small_classifier.build(Recipe(), classes).requires_grad_(False).eval()


def test_the_embedded_classifier_keeps_the_claims_of_its_header(embedded):
    facts = embedded.facts
    known, unseen = small_classifier.halves(4000, facts["split_seed"])
    assert facts["trained_on"] == len(known) == 2000
    estimated = embedded.estimate(embedded.features(faces.pictures("balanced")[unseen]))
    true = faces.attributes("balanced") | {"prompt": faces.prompts("balanced")}
    for name, least in (("gender", 0.985), ("prompt", 0.99)):
        right = estimated[name] == np.asarray(true[name])[unseen]
        claim = facts["attributes"][name]
        assert right.mean() >= least
        assert right.mean() == pytest.approx(claim["accuracy"], abs=0.0015)  # ties in the last bit
        assert np.sum(claim["confusion"]) == claim["held_out"] == 2000
        assert np.trace(claim["confusion"]) / 2000 == claim["accuracy"]
    assert facts["attribute"] == "gender"
    assert facts["augmented"]["gender"]["accuracy"] >= 0.985


def test_the_embedded_classifier_is_small(embedded):
    count = sum(value.numel() for value in embedded.parameters())
    assert count == embedded.facts["parameters"] < 200_000
    assert FILE.stat().st_size < 400_000


def test_neither_batch_nor_neighbours_change_a_picture(embedded, some):
    whole, parts = (embedded.classify(embedded.features(some, batch)) for batch in (256, 5))
    for name in whole:
        assert whole[name] == pytest.approx(parts[name], abs=1e-5)
        assert whole[name].sum(1) == pytest.approx(1)
    reverse = embedded.features(some[::-1].copy(), batch=7)[::-1]
    assert embedded.features(some) == pytest.approx(reverse, abs=1e-4)


def test_features_are_normalised(embedded, some):
    features = embedded.features(some)
    assert features.shape == (len(some), 64)
    assert features.mean(1) == pytest.approx(0, abs=1e-4)
    assert (features**2).mean(1) == pytest.approx(1, abs=1e-3)


def test_no_pictures_give_empty_tables(embedded, some):
    assert embedded.features(some[:0]).shape == (0, 64)
    assert embedded.classify(embedded.features(some[:0]))["prompt"].shape == (0, 4)


def test_a_saved_classifier_comes_back_with_its_facts(tmp_path, some):
    model = untrained()
    model.half().float()  # what float16 can hold
    model.save(tmp_path / "c.safetensors", {"trained_on": 3})
    back = AttributeClassifier.load(tmp_path / "c.safetensors")
    assert back.classes == model.classes
    assert back.facts == {"trained_on": 3}
    assert (back.features(some) == model.features(some)).all()
    assert not any(value.requires_grad for value in back.parameters())


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be read as a classifier"):
        AttributeClassifier.load(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello, I am no tensor")
    with pytest.raises(ModelError, match="cannot be read as a classifier"):
        AttributeClassifier.load(tmp_path / "text.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="holds no attribute classifier"):
        AttributeClassifier.load(tmp_path / "other.safetensors")
    header = {"kind": "invdiff attribute classifier", "classes": '{"a": ["b", "c"]}', "facts": "{}"}
    for less in ({}, {"classes": "["}):  # without its tensors, and without its classes
        save_file({"x": torch.zeros(1)}, tmp_path / "less.safetensors", header | less)
        with pytest.raises(ModelError, match="cannot be read as a classifier"):
            AttributeClassifier.load(tmp_path / "less.safetensors")


@pytest.mark.parametrize("shape", [(2, 64, 64, 3), (2, 32, 32, 4), (32, 32, 3)])
def test_pictures_of_another_shape_are_refused(embedded, shape):
    with pytest.raises(ModelError, match=r"uint8 pictures of 32 x 32"):
        embedded.features(np.zeros(shape, np.uint8))
    with pytest.raises(ModelError, match=r"float64"):
        embedded.features(np.zeros((1, 32, 32, 3)))


def test_pictures_become_tensors_in_the_models_range():
    found = to_input(np.array([[[[0, 255, 51]]]], np.uint8))
    assert found.shape == (1, 3, 1, 1)
    assert found.flatten().tolist() == pytest.approx([-1, 1, -0.6])


def shaded(count=60):
    """Noise that is dark in every second picture, and the labels."""
    pictures = 0.3 * torch.randn((count, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    pictures[::2] -= 0.6
    return pictures.clamp(-1, 1), {"shade": ["dark", "light"] * (count // 2)}


QUICK = Recipe(classifier_steps=20, batch=16, classifier_rate=5e-3)


def test_training_learns_and_measures_on_the_other_half(tmp_path):
    images, labels = shaded()
    model, facts = small_classifier.train_classifier(QUICK, images, labels, tmp_path)
    found = facts["attributes"]["shade"]
    assert found["accuracy"] == 1
    assert found["classes"] == ["dark", "light"]
    _, unseen = small_classifier.halves(60, 0)
    assert found["confusion"] == [[int((unseen % 2 == 0).sum()), 0], [0, int((unseen % 2).sum())]]
    assert (facts["trained_on"], found["held_out"]) == (30, 30)
    rounded = [value == value.half().float() for value in model.state_dict().values()]
    assert all(value.all() for value in rounded)


def test_the_held_out_half_plays_no_part_in_training(tmp_path):
    images, labels = shaded()
    model, _ = small_classifier.train_classifier(QUICK, images, labels, tmp_path / "a")
    _, unseen = small_classifier.halves(60, 0)
    images[unseen] = 0
    other, facts = small_classifier.train_classifier(QUICK, images, labels, tmp_path / "b")
    for name, value in model.state_dict().items():
        assert (value == other.state_dict()[name]).all()
    assert facts["attributes"]["shade"]["accuracy"] < 1


def test_augmented_copies_are_trained_on_and_measured(tmp_path):
    images, labels = shaded()
    model, facts = small_classifier.train_classifier(
        QUICK, images, labels, tmp_path / "a", lambda x, noise: -x
    )
    assert facts["attributes"]["shade"]["accuracy"] == 1
    assert facts["augmented"]["shade"]["accuracy"] == 1
    plain, facts = small_classifier.train_classifier(QUICK, images, labels, tmp_path / "b")
    assert "augmented" not in facts
    targets = {"shade": torch.arange(60) % 2}
    assert small_classifier.measure(model, -images, targets)["shade"]["accuracy"] == 1
    assert small_classifier.measure(plain, -images, targets)["shade"]["accuracy"] < 0.9


def test_confusion_has_a_row_for_each_true_class():
    class Stubborn(torch.nn.Module):
        """Calls everything dark."""

        classes: ClassVar = {"shade": ("dark", "light")}

        def forward(self, pictures):
            return {"shade": torch.tensor([[1.0, 0.0]]).expand(len(pictures), 2)}

    targets = {"shade": torch.tensor([0, 1, 1, 1])}
    found = small_classifier.measure(Stubborn(), torch.zeros(4, 3, 32, 32), targets)["shade"]
    assert found["confusion"] == [[1, 0], [3, 0]]
    assert found["accuracy"] == 0.25


def test_the_autoencoder_spoils_by_its_own_errors():
    class Doubling:
        """Latents are twice the picture; decoding undoes it."""

        def encode(self, pictures):
            mode = type("Posterior", (), {"mode": lambda self: 2 * pictures})()
            return type("Encoded", (), {"latent_dist": mode})

        def decode(self, latent):
            return type("Decoded", (), {"sample": latent / 2})

    pictures = 0.2 * torch.randn((50, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)
    assert small_classifier.through(Doubling(), 0.0)(pictures, noise) == pytest.approx(pictures)
    wrong = small_classifier.through(Doubling(), 0.5)(pictures, noise) - pictures
    assert wrong.std() == pytest.approx(0.1, rel=0.05)


def test_the_halves_are_disjoint_and_cover_everything():
    known, unseen = small_classifier.halves(41, seed=3)
    assert sorted([*known, *unseen]) == list(range(41))
    assert list(known) != list(small_classifier.halves(41, seed=4)[0])


def test_spoiling_is_light_and_repeatable():
    pictures = to_input(faces.pictures("balanced")[:64])
    once, again = (small_classifier.spoil(pictures, torch.Generator().manual_seed(1)) for _ in "ab")
    assert (once == again).all()
    assert once.abs().max() <= 1
    assert 0.01 < (once - pictures).square().mean() < 0.2
    grey = small_classifier.spoil(torch.zeros(64, 3, 32, 32), torch.Generator().manual_seed(1))
    assert grey.std() < 0.12  # a flat picture only gets noise
