"""The same run on a tiny model of every family: discover, train, sample, and the adapter's file.

Nothing in the settings names a family. The pictures of an adapter are the same whether it is
attached, loaded by diffusers itself, or merged into the weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

import invdiff
from invdiff import Run
from invdiff.core.diffusion.guidance import combine
from invdiff.engine.settings.config import load
from invdiff.engine.storage.files import read_json
from invdiff.model.families.registry import from_pipeline
from invdiff.model.guidance.attach import attached
from invdiff.model.lora import adapter, adapter_file
from tests.model import tiny
from tests.model import tiny_families as families
from tests.tiny_world import COAT, HAT, pictures, table

SCALE, STEPS = 2.5, 2
SETTINGS = {
    "data": {"min_images": 12, "label_column": "colour"},
    "discover": {
        "estimator": "labels", "images_per_prompt": 12, "levels": [0.9],
    },
    "train": {
        "steps": 3, "batch_size": 4, "rank": 2, "learning_rate": 1.0,
        "share_feedback": [0.5],
    },
    "calibrate": {"images_per_prompt": 2, "strengths": [0.0, 1.0], "guidance_scale": SCALE},
    "sample": {
        "images_per_prompt": 2, "guidance_scales": [SCALE], "steps": STEPS, "strength": 1.0,
    },
    "study": {"feature_levels": [0.3]},
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A pipeline after a run, and the run."""

    name: str
    pipe: Any
    run: Path

    def fresh(self) -> Any:
        return families.pipeline(self.name)

    def draw(self, pipe: Any) -> np.ndarray:
        """Two pictures in [0, 1] by the pipeline's own call, with classifier-free guidance."""
        options = from_pipeline(pipe).guidance_kwargs(SCALE)
        return pipe(
            prompt=[HAT, COAT],
            generator=tiny.seeds(2),
            num_inference_steps=STEPS,
            output_type="np",
            **options,
        ).images


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("pictures") / "data", share=0.75, count=12)


@pytest.fixture(scope="module", params=list(families.BUILDERS))
def trained(request, data, tmp_path_factory):
    pipe = families.pipeline(request.param)
    settings = SETTINGS | {"data": SETTINGS["data"] | {"path": str(data)}}
    run = Run(tmp_path_factory.mktemp("run") / "run", load(settings), pipeline=pipe)
    for stage in (run.discover, run.train, run.sample, run.evaluate):
        stage()
    return Trained(request.param, pipe, run.path)


@pytest.fixture
def folder(trained):
    return trained.run / "adapter"


@pytest.fixture(scope="module")
def base(trained):
    return trained.draw(trained.fresh())


@pytest.fixture(scope="module")
def guided(trained):
    with attached(pipe := trained.fresh(), trained.run / "adapter", strength=1.0):
        return trained.draw(pipe)


def test_the_run_leaves_the_pipeline_as_it_was(trained, base):
    assert np.array_equal(trained.draw(trained.pipe), base)
    assert type(trained.pipe) is type(trained.fresh())
    network, plain = (from_pipeline(each).module for each in (trained.pipe, trained.fresh()))
    assert type(network) is type(plain)
    assert list(network.state_dict()) == list(plain.state_dict())


def test_training_was_that_of_three_finite_steps(trained):
    record = read_json(trained.run / "training.json")
    assert record["steps"] == 3
    assert np.isfinite(record["curve"]["loss"]).all()
    assert set(record["aims"]) == {HAT, COAT}
    scores = table(trained.run / "scores.parquet")
    assert np.isfinite(scores["loss"]).all()
    assert scores["excess"].any()


def test_the_run_is_evaluated(trained):
    metrics = read_json(trained.run / "metrics.json")
    assert len(metrics["arms"]) == 2


def test_every_exported_file_draws_the_pictures_of_the_adapter(trained, tmp_path):
    """Loaded again by the stock loader, or by PEFT: verified picture by picture."""
    pipe = trained.fresh()
    options = from_pipeline(pipe).guidance_kwargs(SCALE)
    # The loader of Flux knows kohya's names for single blocks of full width alone.
    formats = ("diffusers", "peft") if trained.name == "flux" else ()
    told = {"pipeline": pipe, "verify": True, "options": options, "strength": 1.0}
    found = invdiff.export(trained.run, tmp_path / "out", formats, **told)
    assert all(check.ok for check in found.checks)
    read = {check.file: check.comfyui for check in found.checks}
    known = trained.name not in ("sana", "sd-epsilon", "sd-v", "sdxl")
    layers = len(adapter_file.read(trained.run / "adapter").layers)
    assert (read["pytorch_lora_weights.safetensors"] == layers) == known


def test_the_adapter_changes_the_pictures(base, guided):
    assert np.abs(base - guided).max() > 0.005


def test_the_samples_are_those_of_the_two_networks(trained):
    rows = table(trained.run / "samples.parquet")
    assert len(rows["arm"]) == 2 * 2 * 2
    seen = [np.asarray(Image.open(trained.run / path)) for path in rows["path"]]
    size = from_pipeline(trained.pipe).image_size
    assert {picture.shape for picture in seen} == {(size, size, 3)}
    of = {arm: np.stack([p for p, a in zip(seen, rows["arm"], strict=True) if a == arm])
          for arm in ("base", "guided")}  # fmt: skip
    assert not np.array_equal(of["base"], of["guided"])


def test_strength_zero_is_the_base_to_the_bit(trained, folder, base):
    with attached(pipe := trained.fresh(), folder, strength=0.0):
        assert np.array_equal(trained.draw(pipe), base)
    assert np.array_equal(trained.draw(pipe), base)


def test_the_stock_loader_gives_the_same_pictures(trained, folder, guided):
    """PixArt has none in diffusers; every other family is loaded by it."""
    pipe = trained.fresh()
    assert hasattr(pipe, "load_lora_weights") == (trained.name != "pixart")
    if trained.name != "pixart":
        pipe.load_lora_weights(folder)
        assert np.array_equal(trained.draw(pipe), guided)


def test_merged_weights_give_the_same_pictures(trained, folder, guided):
    pipe = trained.fresh()
    module = from_pipeline(pipe).module
    adapter_file.load(module, folder)
    adapter.with_methods(module).fuse_lora()
    adapter.remove(module)
    assert np.abs(trained.draw(pipe) - guided).max() < 1e-4


@pytest.mark.parametrize("strength", [0.5, -1.0, lambda level: 0.5, [0.5, 0.5]])
def test_other_strengths_are_the_formula(trained, folder, strength):
    """f_base + s (f_adapted - f_base) of two networks apart, with the same latent."""
    number = strength if isinstance(strength, float) else 0.5
    plain, lora, pipe = (trained.fresh() for _ in range(3))
    adapter_file.load(from_pipeline(lora).module, folder)
    invdiff.attach(pipe, folder, strength=strength, scaled="prediction")
    models = [from_pipeline(each) for each in (plain, lora, pipe)]
    latent = torch.randn(2, *models[0].encode_images(blank(models[0])).shape[1:])
    with torch.no_grad():
        base, adapted, found = (
            model.predict(latent, torch.tensor([900, 100]), model.encode_prompts([HAT, COAT]))
            for model in models
        )
    assert not torch.allclose(base, adapted, atol=1e-3)
    expected = base + number * (adapted - base)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(combine(base, adapted, torch.tensor([number])), expected)


def test_conditional_only_spares_the_null_prompt(trained, folder):
    """The branches that the pipeline asks for, each compared with the network it should see."""
    if trained.name == "chroma":
        pytest.skip("its pipeline does not tell the branches apart, and is refused")
    calls: dict[str, list[torch.Tensor]] = {"base": [], "lora": [], "cond": []}
    for kind, seen in calls.items():
        options = {"guidance_embeds": False} if trained.name == "flux" else {}
        pipe = families.pipeline(trained.name, **options)
        if kind != "base":
            apply_to = "cond" if kind == "cond" else "both"
            invdiff.attach(pipe, folder, strength=1.0, apply_to=apply_to)
        module = from_pipeline(pipe).module
        module.register_forward_hook(lambda m, a, output, seen=seen: seen.append(rows(output[0])))
        trained.draw(pipe)
    apart = trained.name in ("flux", "qwen-image", "flux2-klein")  # a call for each branch
    first = {kind: torch.cat(seen[: 2 if apart else 1]) for kind, seen in calls.items()}
    halves = ([2, 3], [0, 1]) if apart or trained.name == "z-image" else ([0, 1], [2, 3])
    null, own = ([], [0, 1]) if trained.name == "flux2" else halves  # its one call is both
    assert torch.equal(first["cond"][null], first["base"][null])
    assert torch.equal(first["cond"][own], first["lora"][own])
    assert not torch.allclose(first["base"], first["lora"], atol=1e-4)


@pytest.mark.parametrize("name", ["qwen-image", "z-image", "flux2-klein", "chroma"])
def test_a_run_from_a_folder_holds_one_part_at_a_time(name, data, tmp_path, monkeypatch):
    """In half precision, with what is computed again; pictures small, as the data."""
    families.pipeline(name).save_pretrained(tmp_path / "model")
    kind = type(families.pipeline(name))
    monkeypatch.setattr(kind, "default_sample_size", families.LATENT, raising=False)
    monkeypatch.setattr(kind, "__setattr__", keeps_its_size)
    folder = {"path": str(tmp_path / "model"), "dtype": "bfloat16", "device": "cpu"}
    train = SETTINGS["train"] | {"gradient_checkpointing": True, "learning_rate": 0.01}
    about = {"data": SETTINGS["data"] | {"path": str(data)}, "model": folder, "train": train}
    run = Run(tmp_path / "run", load(SETTINGS | about | {"processes": 1}))
    for stage in (run.discover, run.train, run.sample):
        stage()
    assert len(table(run.path / "samples.parquet")["arm"]) == 2 * 2 * 2


def keeps_its_size(pipe, name, value):
    """Pipelines set the published 128 cells when they are made."""
    if name != "default_sample_size":
        DiffusionPipeline.__setattr__(pipe, name, value)


def rows(output):
    return torch.stack(output) if isinstance(output, list) else output


def blank(model):
    return np.zeros((1, model.image_size, model.image_size, 3), np.uint8)
