"""On the embedded model, loaded as anybody would: what is exactly the same, and to which bit."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import invdiff
from invdiff import Run
from invdiff.data.samples import Samples
from invdiff.data.sets import builtin
from invdiff.data.sources import open_samples
from invdiff.engine.base_model import loading
from invdiff.engine.settings.config import load
from invdiff.engine.storage.files import read_json
from invdiff.model.lora import adapter
from tests.tiny_world import contents, table

HAT = "a person wearing a hat"
STEPS, BATCH = 5, 4


@pytest.fixture(scope="module")
def stock():
    """The embedded model through nothing but diffusers."""
    with loading.hushed(bars=False):
        pipe = StableDiffusionPipeline.from_pretrained(builtin.set_folder("faces") / "base")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three steps of training on a few of the embedded faces; pictures at strength 1."""
    settings = {
        "processes": 1,
        "discover": {
            "estimator": "labels", "images_per_prompt": 40, "levels": [0.95],
        },
        "train": {"steps": 3, "batch_size": 8, "learning_rate": 1e-2, "share_feedback": []},
        "calibrate": {"strengths": [1.0]},
        "sample": {
            "prompts": [HAT], "images_per_prompt": 2 * BATCH, "guidance_scales": [1.0, 2.5],
            "steps": STEPS, "strength": 1.0, "batch_size": BATCH,
        },
        "study": {"feature_levels": [0.15]},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("invdiff.engine.encoding.session.open_data", lambda _, size: few_faces(size))
        made = Run(tmp_path_factory.mktemp("faces") / "run", load(settings))
        for stage in (made.discover, made.train, made.sample):
            stage()
    return made.path


def few_faces(size, count=40):
    everything = open_samples("faces", size)
    prompt = np.array(everything.prompt)
    rows = np.concatenate([np.flatnonzero(prompt == n)[:count] for n in everything.prompts()])
    return Samples(
        tuple(everything.sample_id[i] for i in rows),
        tuple(prompt[rows].tolist()),
        lambda part: everything.pictures([int(rows[i]) for i in part]),
    )


def pictures(pipe, seeds, scale=2.5):
    """uint8 pictures of the stock pipeline, as it makes them itself."""
    drawn = pipe(
        prompt=[HAT] * len(seeds),
        generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds],
        num_inference_steps=STEPS,
        guidance_scale=scale,
    ).images
    return np.stack([np.asarray(one) for one in drawn])


def stored(run, arm, scale):
    """Pictures of the run and their seeds, batch by batch, as `invdiff sample` drew them."""
    told = table(run / "samples.parquet")
    rows = np.flatnonzero((told["arm"] == arm) & (told["scale"] == scale))
    assert len(rows) == 2 * BATCH
    seen = [np.asarray(Image.open(run / path)) for path in told["path"][rows]]
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        yield told["seed"][rows[part]], np.stack(seen[part])


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_base_pictures_are_those_of_the_stock_pipeline(stock, run, scale):
    for seeds, expected in stored(run, "base", scale):
        assert np.array_equal(pictures(stock, seeds, scale), expected)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_guided_pictures_are_those_of_the_stock_loader(stock, run, scale):
    """The adapter is an ordinary LoRA: strength 1 is `pipe.load_lora_weights`, to the bit."""
    stock.load_lora_weights(run / "adapter")
    try:
        for seeds, expected in stored(run, "guided", scale):
            assert np.array_equal(pictures(stock, seeds, scale), expected)
    finally:
        stock.unload_lora_weights()


def test_in_batches_of_another_size_it_is_one_step_of_255_at_most(stock, run):
    """Matrix products of other shapes round differently; nothing else differs."""
    stock.load_lora_weights(run / "adapter")
    try:
        seeds, expected = next(stored(run, "guided", 2.5))
        alone = np.concatenate([pictures(stock, [seed]) for seed in seeds[:2]])
    finally:
        stock.unload_lora_weights()
    assert abs(alone.astype(int) - expected[:2].astype(int)).max() <= 1


def test_the_guidance_does_something(run):
    """Else everything here would hold of an adapter that is never applied."""
    for (_, base), (_, guided) in zip(
        stored(run, "base", 1.0), stored(run, "guided", 1.0), strict=True
    ):
        assert abs(base.astype(int) - guided).mean() > 0.1


def test_strength_zero_is_the_base_to_the_bit(stock, run):
    seeds = [1, 2]
    before = pictures(stock, seeds)
    invdiff.attach(stock, run / "adapter", strength=0.0)
    at_zero = pictures(stock, seeds)
    invdiff.detach(stock)
    assert np.array_equal(at_zero, before)


def test_detaching_restores_pictures_and_weights(stock, run):
    seeds = [3, 4]
    before, weights = pictures(stock, seeds), state(stock)
    invdiff.attach(stock, run / "adapter", strength=1.0)
    attached = pictures(stock, seeds)
    invdiff.detach(stock)
    assert not np.array_equal(attached, before)
    assert np.array_equal(pictures(stock, seeds), before)
    now = state(stock)
    assert now.keys() == weights.keys()
    assert all(torch.equal(now[name], weights[name]) for name in weights)


def state(pipe):
    return {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}


def test_a_fresh_adapter_changes_no_bit(stock):
    seeds = [5, 6]
    before = pictures(stock, seeds)
    adapter.add_lora(stock.unet, rank=4, seed=0)
    try:
        assert np.array_equal(pictures(stock, seeds), before)
    finally:
        adapter.remove(stock.unet)
    assert np.array_equal(pictures(stock, seeds), before)


def test_half_the_strength_is_between(stock, run):
    seeds = [7, 8]
    drawn = {}
    for strength in (0.0, 0.5, 1.0):
        invdiff.attach(stock, run / "adapter", strength=strength)
        drawn[strength] = pictures(stock, seeds).astype(float)
        invdiff.detach(stock)
    far = abs(drawn[1.0] - drawn[0.0]).mean()
    assert 0 < abs(drawn[0.5] - drawn[0.0]).mean() < far
    assert 0 < abs(drawn[1.0] - drawn[0.5]).mean() < far


def test_nothing_of_the_run_names_a_path_of_this_machine(run):
    """A run can be moved and sent: paths in its tables are relative to it."""
    told = table(run / "samples.parquet")["path"]
    assert all(path.startswith("samples/") for path in told)
    assert str(run).encode() not in b"".join(contents(run).values())
    assert read_json(run / "training.json")["steps"] == 3
