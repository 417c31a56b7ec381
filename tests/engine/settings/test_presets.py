"""The presets: each is valid, and those of benchmarks are as published."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import invdiff
from invdiff.app.report.builder import SMOKE
from invdiff.engine.preflight.plan import DataSize, data_size, work_plan
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.storage.files import read_parquet
from invdiff.studies.benchmarking.suites import ROWS
from invdiff.studies.official_sets import BENCHMARKS, prepare
from tests.data.tiny_archives import make

PACKAGE = Path(invdiff.__file__).parent


@pytest.mark.parametrize("name", configuration.preset_names())
def test_presets_are_valid_and_have_a_plan(name):
    plan = work_plan(configuration.preset(name), DataSize((100, 200)))
    assert [work.stage for work in plan] == list(STAGES)
    assert all(work.passes > 0 for work in plan[:3])  # the last two need no pass of the model


@pytest.mark.parametrize("name", BENCHMARKS)
def test_presets_of_benchmarks_read_what_prepare_writes(name, tmp_path):
    config = configuration.preset(name)
    tiny = make(name, tmp_path / "archive")
    out = prepare(name, tiny.folder, tmp_path / name, published=tiny.published)
    assert config.data.path == f"{name}/train"
    table = read_parquet(out / "train" / "metadata.parquet")
    assert (config.data.prompt_column or "caption") in table
    assert config.data.label_column in table


@pytest.mark.parametrize("name", BENCHMARKS)
def test_presets_of_benchmarks_are_as_published(name):
    config = configuration.preset(name)
    assert config.model.path == "CompVis/stable-diffusion-v1-4"
    assert config.model.dtype == "float16"
    assert config.data.image_size == 512
    train, sample = config.train, config.sample
    assert (train.steps, train.batch_size, train.learning_rate) == (10_000, 64, 1e-4)
    assert train.variance_weight == 1
    assert (sample.images_per_prompt, sample.steps) == (512, 50)
    assert config.calibrate.guidance_scale == max(sample.guidance_scales) == 7.5
    beside = configuration.preset(name, ROWS["reference recipe"].changes)
    assert beside.study.estimator == beside.study.objective == "reference"


def test_the_quick_preset_is_quick():
    quick, whole = (configuration.preset(n) for n in ("faces-quick", "faces"))
    size = data_size(whole.data)
    few, many = (sum(work.passes for work in work_plan(one, size)) for one in (quick, whole))
    assert few * 5 < many
    assert 0 < quick.train.steps < SMOKE, "its report says that it is one"


def test_embedded_sets_have_the_size_that_the_plan_counts_with():
    prompts = pq.read_table(PACKAGE / "assets/faces/train.parquet")["prompt"].to_pylist()
    counts = {prompt: prompts.count(prompt) for prompt in set(prompts)}
    kinds, images = EMBEDDED_SETS["faces"]
    assert len(counts) == kinds
    assert set(counts.values()) == {images}
