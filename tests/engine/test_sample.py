"""Which pictures are drawn, before any is."""

import pytest

from invdiff.engine import config as configuration
from invdiff.engine.files import write_json, write_parquet
from invdiff.engine.run import RunFolder
from invdiff.engine.sample import plan


def run_with(folder, *overrides, skipped=False):
    run = RunFolder.open(folder / "run", configuration.parse({}, overrides))
    write_parquet(run.path / "groups.parquet", {"prompt": ["a hat", "a coat", "a hat"]})
    write_json(run.path / "training.json", {"skipped": skipped})
    write_json(run.path / "adapter/calibration.json", {"strength": 0.75})
    return run


def test_both_arms_share_seeds_and_differ_in_strength(tmp_path):
    parts = plan(run_with(tmp_path, "sample.images_per_prompt=3"))
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
    parts = plan(run_with(tmp_path, f"sample.arms={arms}"))
    assert list(dict.fromkeys(part.arm for part in parts)) == arms


@pytest.mark.parametrize("arms", [["base"], ["guided"], ["base", "guided"]])
def test_without_a_trained_guidance_the_base_arm_is_drawn(tmp_path, arms):
    parts = plan(run_with(tmp_path, f"sample.arms={arms}", skipped=True))
    assert {part.arm for part in parts} == {"base"}
    assert len(parts) == 2 * 2


def test_the_strength_of_the_settings_goes_before_the_calibrated_one(tmp_path):
    parts = plan(run_with(tmp_path, "sample.strength=1.25", "sample.arms=['guided']"))
    assert {part.sampler.strength for part in parts} == {1.25}
