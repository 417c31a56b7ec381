"""Classifiers of others on two folders: they estimate, and nobody measured how often wrongly."""

import re

import pytest

from invdiff.data.gallery import open_gallery
from invdiff.engine.comparison import caveats
from invdiff.engine.comparison.labels import attributes_of
from tests import tiny_world
from tests.model import tiny_vision

CLASSES = ["warm = a warm picture", "cold = a cold picture", "cold = a blue picture"]


@pytest.fixture(scope="module")
def galleries(tmp_path_factory):
    root = tmp_path_factory.mktemp("galleries")
    return {
        of: open_gallery(tiny_world.pictures(root / of, share, count=4))
        for of, share in (("a", 0.9), ("b", 0.5))
    }


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_classes_are_told_by_texts(galleries, tmp_path, kind):
    folder = getattr(tiny_vision, kind)(tmp_path / kind)
    (found,) = attributes_of(f"{kind}:{folder}", [], galleries, "colour", CLASSES)
    assert (found.name, found.classes) == ("colour", ("warm", "cold"))
    assert [len(found.labels[of]) for of in "ab"] == [8, 8]
    assert set(found.labels["a"]) <= {"warm", "cold"}
    assert found.claims == {}
    (told,) = caveats.of_attributes([found])
    assert re.search(r"How often the classifier .* is wrong about colour was not measured", told)


def test_an_image_classifier_by_its_labels(galleries, tmp_path):
    folder = tiny_vision.vit(tmp_path / "vit")
    classes = ["pet = cat", "pet = dog", "plant = tree"]
    (found,) = attributes_of(f"model:{folder}", [], galleries, "kind", classes)
    assert (found.name, found.classes) == ("kind", ("pet", "plant"))


def test_a_column_of_labels_goes_before_an_estimate(galleries, tmp_path):
    folder = tiny_vision.clip(tmp_path / "clip")
    (found,) = attributes_of(f"clip:{folder}", ["colour"], galleries, "colour", CLASSES)
    assert found.made_by == "labels that came with the pictures"
    assert list(caveats.of_attributes([found])) == []
