"""Which pictures are drawn, and that one that was drawn is not lost and not drawn again."""

import errno
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from invdiff.engine.discovery import scoring
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.sampling.sample import sampling_parts, slug
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.settings import config as configuration
from invdiff.engine.storage import hashed_tensors
from invdiff.engine.storage.files import write_json
from invdiff.engine.workflow import do_stage, session_of
from invdiff.errors import ModelError
from invdiff.model.lora import adapter, adapter_file
from tests import tiny_world


def run_with(folder, *overrides, skipped=False):
    run = RunFolder.open(folder / "run", configuration.load({}, overrides))
    prompts = {
        name: {"found": scored > 0, "scored": scored, "representatives": [name]}
        for name, scored in (("a hat", 40), ("a coat", 40), ("rare", 0))
    }
    write_json(run.path / "discovery.json", {"estimator": "auto", "prompts": prompts})
    write_json(run.path / "training.json", {"skipped": skipped})
    write_json(run.path / "adapter/calibration.json", {"guidance_scale": 2.5, "strength": 0.75})
    return run


def test_both_arms_share_seeds_and_differ_in_strength(tmp_path):
    parts = sampling_parts(session_of(run_with(tmp_path, "sample.images_per_prompt=3")))
    assert len(parts) == 2 * 2 * 2  # arms, scales, prompts
    assert {(part.arm, part.sampler.strength) for part in parts} == {("base", 0), ("guided", 0.75)}
    assert all((part.sampler.adapter is None) == (part.arm == "base") for part in parts)
    assert len({(part.prompt, part.seeds) for part in parts}) == 2
    assert len({part.seeds for part in parts}) == 2
    assert {len(part.seeds) for part in parts} == {3}
    paths = [part.path(index) for part in parts for index in range(3)]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("arms", [["base"], ["guided"], ["guided", "base"]])
def test_only_the_arms_asked_for_are_drawn(tmp_path, arms):
    parts = sampling_parts(session_of(run_with(tmp_path, f"study.arms={arms}")))
    assert list(dict.fromkeys(part.arm for part in parts)) == arms


@pytest.mark.parametrize("arms", [["base"], ["guided"], ["base", "guided"]])
def test_without_a_trained_guidance_the_base_arm_is_drawn(tmp_path, arms):
    parts = sampling_parts(session_of(run_with(tmp_path, f"study.arms={arms}", skipped=True)))
    assert {part.arm for part in parts} == {"base"}
    assert len(parts) == 2 * 2


def test_the_strength_of_the_settings_goes_before_the_calibrated_one(tmp_path):
    parts = sampling_parts(
        session_of(run_with(tmp_path, "sample.strength=1.25", "study.arms=['guided']"))
    )
    assert {part.sampler.strength for part in parts} == {1.25}


def test_a_strength_that_was_vetoed_is_drawn_with_a_line(tmp_path, caplog):
    run = run_with(tmp_path, "sample.strength=1.25", "study.arms=['guided']")
    curve = [{"strength": s, "gap": 0.1, "vetoed": s > 1} for s in (0.0, 0.75, 1.25)]
    path = run.path / "adapter/calibration.json"
    write_json(path, {"guidance_scale": 2.5, "strength": 0.75, "curve": curve})
    assert {part.sampler.strength for part in sampling_parts(session_of(run))} == {1.25}
    (line,) = caplog.messages
    assert "adapter strength 1.25: calibration has vetoed it" in line
    assert line.endswith("the calibrated one is 0.75")


# Drawing them


@pytest.fixture
def sampled(world, finished, tmp_path):
    """A copy of a finished run whose pictures are there and whose sample stage is not done."""
    copy = tiny_world.copy_of(finished, tmp_path / "run", "evaluate")
    (copy / "stages" / "sample.json").unlink()
    (copy / "samples.parquet").unlink()
    return world.open(copy)


def drawn(monkeypatch):
    """Count what the stage draws."""
    seeds = []
    original = Sampler.pictures

    def pictures(self, prompts, asked):
        seeds.extend(asked)
        return original(self, prompts, asked)

    monkeypatch.setattr(Sampler, "pictures", pictures)
    return seeds


def test_only_pictures_that_are_missing_are_drawn_again(sampled, finished, monkeypatch):
    every = sorted((sampled.path / "samples").rglob("*.png"))
    assert len(every) == 2 * 2 * 2 * 3  # prompts, arms, scales, pictures
    lost = every[::5]
    for path in lost:
        path.unlink()
    kept = tiny_world.stamps(sampled.path / "samples")
    seeds = drawn(monkeypatch)
    do_stage(sampled, "sample")
    assert len(seeds) == len(lost)
    now = tiny_world.stamps(sampled.path / "samples")
    assert {name: now[name] for name in kept} == kept
    assert tiny_world.contents(sampled.path / "samples") == tiny_world.contents(
        finished / "samples"
    )
    assert tiny_world.table(sampled.path / "samples.parquet")["path"].tolist() == (
        tiny_world.table(finished / "samples.parquet")["path"].tolist()
    )


def test_the_batch_changes_no_picture_by_more_than_a_step(world, finished):
    """One step of 255: matrix products of other shapes round differently."""
    model = tiny_world.denoiser(world)
    sampler = Sampler(model, finished / "adapter", 1.0, (0.0, 1.0), 2.5, 2)
    seeds = [seed_of(0, "a hat", k) for k in range(3)]
    together = sampler.pictures(["a hat"] * 3, seeds).astype(int)
    alone = np.concatenate([sampler.pictures(["a hat"], [seed]) for seed in seeds]).astype(int)
    assert abs(together - alone).max() <= 1
    assert abs(together[0] - together[1]).max() > 10


def test_a_full_disk_loses_no_picture(sampled, finished, monkeypatch):
    before = tiny_world.contents(sampled.path / "samples")
    lost = sorted(before)[:4]
    for name in lost:
        (sampled.path / "samples" / name).unlink()
    replace = os.replace

    def full(source, target):
        if str(target).endswith(lost[2]):
            raise OSError(errno.ENOSPC, "No space left on device", str(source))
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            do_stage(sampled, "sample")
    assert not sampled.done("sample")
    assert not (sampled.path / "samples.parquet").exists()
    left = tiny_world.contents(sampled.path / "samples")
    assert left.items() <= before.items(), "no half files, nothing beside the pictures"
    assert set(before) - set(left) <= set(lost[2:])

    again = RunFolder.open(sampled.path)
    do_stage(again, "sample")
    assert again.done("sample")
    assert tiny_world.contents(sampled.path / "samples") == before


def test_a_damaged_model_draws_nothing(world, finished, monkeypatch):
    model = tiny_world.denoiser(world)
    sampler = Sampler(model, None, 0.0, (0.0, 1.0), 1.0, 2)
    sampler.pictures(["a hat"], [1])  # prompts are encoded without the autoencoder in memory
    weight = next(model.pipeline.vae.decoder.parameters())
    monkeypatch.setattr(weight, "data", torch.full_like(weight, float("nan")))
    with pytest.raises(ModelError, match="generated pictures are not finite"):
        sampler.pictures(["a hat"], [1])


def test_an_adapter_in_training_is_drawn_within_the_window(world, finished, request):
    """As its folder is; the window is taken off again."""
    model, folder = tiny_world.denoiser(world), finished / "adapter"
    drawn = ["a hat"] * 2, [3, 4]
    window = (0.5, 1.0)
    whole = Sampler(model, folder, 1.0, (0.0, 1.0), 1.5, 4).latents(*drawn)
    expected = Sampler(model, folder, 1.0, window, 1.5, 4).latents(*drawn)
    assert not torch.equal(whole, expected)
    base = Sampler(model, None, 1.0, window, 1.5, 4).latents(*drawn)
    adapter_file.load(model.module, folder)
    request.addfinalizer(lambda: adapter.remove(model.module))
    with adapter.disabled(model.module):
        assert torch.equal(Sampler(model, None, 1.0, window, 1.5, 4).latents(*drawn), base)
    for _ in range(2):
        torch.testing.assert_close(
            Sampler(model, None, 1.0, window, 1.5, 4).latents(*drawn), expected
        )
    torch.testing.assert_close(Sampler(model, None, 1.0, (0.0, 1.0), 1.5, 4).latents(*drawn), whole)


def test_two_prompts_never_share_a_folder():
    prompts = [
        "a hat",
        "A hat",
        "a-hat",
        "帽子",
        "帽",
        "x" * 300,
        "x" * 301,
        "",
        "../../etc",
        "a\x00b",
    ]
    slugs = [slug(prompt) for prompt in prompts]
    assert len(set(slugs)) == len(prompts)
    assert all(re.fullmatch(r"[a-z0-9-]{7,47}", one) for one in slugs)


def test_two_processes_draw_and_score_the_same(world, finished, tmp_path, monkeypatch):
    """One step of 255 at most; here in fact the same bytes."""
    monkeypatch.setattr(hashed_tensors, "SHARD", 45)  # two shards
    copy = tiny_world.copy_of(finished, tmp_path / "run", "discover")
    run = world.open(copy, "processes=2")
    samples = session_of(run).samples
    passes = scoring.Passes(session_of(run), samples, encoded(finished))
    scores = passes.scores(np.arange(90))
    held = tiny_world.tensors(next((finished / "cache").rglob("scores-00000.safetensors")))
    np.testing.assert_allclose(scores.loss, held["loss"].numpy(), rtol=1e-5)
    np.testing.assert_allclose(scores.null_loss, held["null_loss"].numpy(), rtol=1e-5)

    other = tiny_world.copy_of(finished, tmp_path / "other", "sample")
    run = world.open(other, "processes=2")
    do_stage(run, "sample")
    told = tiny_world.table(run.path / "samples.parquet")
    for path in told["path"]:
        one, two = (np.asarray(Image.open(root / path), int) for root in (finished, run.path))
        assert abs(one - two).max() <= 1


def encoded(finished):
    return tiny_world.tensors(next((finished / "cache").rglob("latents-00000.safetensors")))[
        "latent"
    ]


def test_pictures_of_one_colour_are_told_in_the_run_and_its_figures(
    world, finished, tmp_path, caplog
):
    copy = tiny_world.copy_of(finished, tmp_path / "run", "sample")
    run = world.open(copy)
    parts = sampling_parts(session_of(run))
    black = parts[0].path(0)
    black.parent.mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(black)  # as a run that was interrupted has left it
    do_stage(run, "sample")
    shown = tiny_world.table(copy / "samples.parquet")
    assert shown["path"][shown["one_colour"]].tolist() == [black.relative_to(copy).as_posix()]
    assert f"1 of {len(shown['path'])} drawn pictures are of one colour" in caplog.text
    do_stage(run, "evaluate")
    (told,) = session_of(run).results.metrics.warnings
    assert black.name in told
