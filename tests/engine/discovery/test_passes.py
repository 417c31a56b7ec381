"""The passes of discovery through the model: what they share, and a model without numbers."""

import numpy as np
import pytest
import torch

from invdiff.engine.base_model.loading import require_finite
from invdiff.engine.discovery.passes import Contrast, Features, Score
from invdiff.engine.encoding.encode import Encode
from invdiff.errors import ModelError
from invdiff.studies.comparison.authors_score import Reference
from tests import tiny_world
from tests.tiny_world import COAT, HAT, denoiser


def latents(world, count=5):
    shape = (count, 4, tiny_world.tiny.LATENT, tiny_world.tiny.LATENT)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def every_pass(source, batch=32, levels=(0.9, 0.4)):
    common = {"source": source, "seed": 0, "batch": batch}
    return {
        "score": (
            Score(levels=levels, draws=2, **common),
            lambda z: (z, [HAT, COAT, HAT, "", HAT]),
        ),
        "contrast": (Contrast(levels=levels, draws=2, texts=(HAT, COAT), **common), lambda z: z),
        "features": (Features(levels=levels, draws=2, **common), lambda z: z),
        "reference": (
            Reference(levels=(0.0,), draws=1, **common),
            lambda z: (z, [HAT] * 5, np.arange(5)),
        ),
    }


@pytest.mark.parametrize("name", ["score", "contrast", "features", "reference"])
def test_the_batch_does_not_matter(world, name):
    model, clean = denoiser(world), latents(world)
    work, shard = every_pass(model)[name]
    small, _ = every_pass(model, batch=2)[name]
    for key, value in work(shard(clean)).items():
        torch.testing.assert_close(value, small(shard(clean))[key], rtol=1e-4, atol=1e-5)
        assert len(value) == len(clean)


def test_the_null_loss_is_the_loss_under_the_empty_prompt(world):
    work, _ = every_pass(denoiser(world))["score"]
    scored = work((latents(world), [HAT, "", COAT, "", ""]))
    same = torch.isclose(scored["loss"], scored["null_loss"], rtol=1e-5, atol=0).all((1, 2))
    assert same.tolist() == [False, True, False, True, True]


def test_the_loss_under_another_prompt_is_that_of_a_picture_of_it(world):
    passes, clean = every_pass(denoiser(world)), latents(world)
    compared = passes["contrast"][0](clean)["loss"]
    for column, text in enumerate((HAT, COAT)):
        own = passes["score"][0]((clean, [text] * 5))["loss"]
        torch.testing.assert_close(compared[:, column], own, rtol=1e-5, atol=1e-7)


def test_all_images_share_their_noise(world):
    """One latent twice in a shard has one score, wherever it stands."""
    clean = latents(world)[[0, 1, 0, 2, 0]]
    scored = every_pass(denoiser(world))["score"][0]((clean, [HAT] * 5))["loss"]
    torch.testing.assert_close(scored[[0, 2]], scored[[4, 4]], rtol=1e-5, atol=1e-7)


def test_draws_are_other_noise(world):
    model, clean = denoiser(world), latents(world)
    common = {"source": model, "seed": 0, "batch": 8, "levels": (0.9,)}
    first, second = (Features(draws=n, **common)(clean)["feature"] for n in (1, 2))
    assert not torch.allclose(first, second)
    loss = Score(draws=2, **common)((clean, [HAT] * 5))["loss"]
    assert not torch.allclose(loss[:, :, 0], loss[:, :, 1])


def broken_model(world, monkeypatch, part):
    """The tiny model with one weight of a part that is not a number."""
    model = denoiser(world)
    weight = next(iter(getattr(model.pipeline, part).parameters()))
    monkeypatch.setattr(weight, "data", torch.full_like(weight, float("nan")))
    return model


@pytest.mark.parametrize("name", ["score", "contrast", "features", "reference"])
def test_a_network_that_gives_nan_is_named(world, monkeypatch, name):
    work, shard = every_pass(broken_model(world, monkeypatch, "unet"))[name]
    with pytest.raises(ModelError, match=r"not finite.*model\.path are damaged"):
        work(shard(latents(world)))


def test_an_autoencoder_that_gives_nan_is_named(world, monkeypatch):
    model = broken_model(world, monkeypatch, "vae")
    pictures = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(ModelError, match="latents of pictures are not finite"):
        Encode(model, 8)(pictures)


def test_half_precision_is_named_as_the_cause(world, monkeypatch):
    model = broken_model(world, monkeypatch, "unet")
    monkeypatch.setattr(type(model.module), "dtype", torch.float16)
    with pytest.raises(ModelError, match=r'float16 is too narrow.*model.dtype = "float32"'):
        require_finite(torch.tensor([1.0, float("inf")]), "losses", model)
