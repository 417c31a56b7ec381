"""Classifiers of others, on tiny random models of the real classes: as calling them by hand."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPModel, SiglipModel, ViTForImageClassification

from invdiff.errors import ModelError
from invdiff.model.vision.classifiers import (
    BackboneClassifier,
    PretrainedClassifier,
    ZeroShotClassifier,
)
from invdiff.model.vision.transformers_models import BATCH, VisionModel
from tests.model import tiny, tiny_vision

TEXTS = {"woman": ["a photo of a woman", "her face"], "man": ["a photo of a man"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("vision")
    return {
        kind: make(place / kind)
        for kind, make in (
            ("clip", tiny_vision.clip),
            ("siglip", tiny_vision.siglip),
            ("vit", tiny_vision.vit),
        )
    }


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (BATCH + 3, 24, 24, 3), dtype=np.uint8)


def prepared(folder, pictures):
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    shown = [Image.fromarray(one) for one in pictures]
    return processor(images=shown, return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize(("kind", "model"), [("clip", CLIPModel), ("siglip", SiglipModel)])
def test_zero_shot_is_the_models_own_forward(folders, pictures, kind, model):
    one_text = {"woman": TEXTS["woman"][:1], "man": TEXTS["man"]}
    found = ZeroShotClassifier(folders[kind], "gender", one_text)
    values = found.classify(found.features(pictures))["gender"]
    witness = model.from_pretrained(folders[kind]).eval()
    padding = "max_length" if kind == "siglip" else True
    texts = [text for group in one_text.values() for text in group]
    tokens = tiny.tokenizer()(
        texts, padding=padding, truncation=True, max_length=16, return_tensors="pt"
    )
    with torch.no_grad():
        inputs = {"input_ids": tokens["input_ids"]}
        if kind == "clip":  # SigLIP was trained without
            inputs["attention_mask"] = tokens["attention_mask"]
        logits = witness(pixel_values=prepared(folders[kind], pictures), **inputs)
    expected = logits.logits_per_image.double().softmax(1).numpy()
    assert values == pytest.approx(expected, abs=1e-5)
    assert values.std() > 1e-6  # the pictures are told apart


def test_several_texts_of_a_class_are_averaged(folders, pictures):
    found = ZeroShotClassifier(folders["clip"], "gender", TEXTS)
    assert found.classes == {"gender": ("woman", "man")}
    each = [ZeroShotClassifier(folders["clip"], "x", {t: [t]}).anchors for t in TEXTS["woman"]]
    mean = torch.cat(each).mean(0)
    assert found.anchors[0].numpy() == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    assert found.features(pictures[:0]).shape == (0, 8)


def test_batches_change_nothing(folders, pictures):
    found = ZeroShotClassifier(folders["clip"], "gender", TEXTS)
    parts = [found.features(pictures[:5]), found.features(pictures[5:])]
    assert found.features(pictures) == pytest.approx(np.concatenate(parts), abs=1e-5)


def test_a_model_without_texts_is_refused(folders):
    with pytest.raises(ModelError, match="reads no text"):
        ZeroShotClassifier(folders["vit"], "gender", TEXTS)


def test_labels_of_a_model_are_mapped_to_classes(folders, pictures):
    groups = {"animal": ["cat", "dog"], "plant": ["tree"]}
    found = PretrainedClassifier(folders["vit"], "kind", groups)
    values = found.classify(found.features(pictures))["kind"]
    witness = ViTForImageClassification.from_pretrained(folders["vit"]).eval()
    with torch.no_grad():
        expected = witness(prepared(folders["vit"], pictures)).logits.softmax(1).numpy()
    assert values[:, 0] == pytest.approx(expected[:, 0] + expected[:, 1], abs=1e-5)
    own = PretrainedClassifier(folders["vit"], "kind", {})
    assert own.classes == {"kind": ("cat", "dog", "tree")}
    two = PretrainedClassifier(folders["vit"], "kind", {"a": ["cat"], "b": ["tree"]})
    share = expected[:, 0] / (expected[:, 0] + expected[:, 2])
    assert two.classify(two.features(pictures))["kind"][:, 0] == pytest.approx(share, abs=1e-5)


def test_an_unknown_label_names_the_known_ones(folders):
    with pytest.raises(ModelError, match=r"no label 'bird'.*cat, dog, tree"):
        PretrainedClassifier(folders["vit"], "kind", {"a": ["bird"], "b": ["cat"]})


def test_a_missing_model_says_how_to_get_it(tmp_path):
    with pytest.raises(ModelError, match="hf download"):
        PretrainedClassifier(str(tmp_path / "nothing"), "kind", {})


def test_weights_that_a_file_lacks_are_never_made_up(folders, pictures):
    with pytest.raises(ModelError, match="no weights for classifier"):
        PretrainedClassifier(folders["clip"], "kind", {})
    once, again = (VisionModel(folders["vit"], "AutoModel") for _ in "ab")
    assert once.sha256 == again.sha256  # its file has no pooler, and none is drawn
    assert (once.features(pictures) == again.features(pictures)).all()


def head(classes, dims):
    random = torch.Generator().manual_seed(1)
    weight = torch.randn((classes, dims), generator=random)
    return {"weight": weight, "bias": torch.randn(classes, generator=random)}


@pytest.mark.parametrize(("kind", "dims"), [("vit", 16), ("clip", 8)])
def test_a_head_on_a_backbone_comes_back_from_its_file(folders, pictures, tmp_path, kind, dims):
    vision = VisionModel(folders[kind], "AutoModel")
    made = BackboneClassifier(vision, "kind", ("a", "b"), head(2, dims))
    facts = {"backbone": folders[kind], "backbone_sha256": vision.sha256}
    made.save(tmp_path / "head.safetensors", facts)
    header = {"facts": json.dumps(facts), "classes": json.dumps({"kind": ["a", "b"]})}
    back = BackboneClassifier.build(header, head(2, dims), tmp_path / "head.safetensors")
    found = made.features(pictures)
    assert found.shape == (len(pictures), dims)
    assert (back.classify(back.features(pictures))["kind"] == made.classify(found)["kind"]).all()
    other = header | {"facts": json.dumps(facts | {"backbone_sha256": "0" * 64})}
    with pytest.raises(ModelError, match="trained on other weights"):
        BackboneClassifier.build(other, head(2, dims), tmp_path / "head.safetensors")
