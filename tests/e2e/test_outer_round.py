"""A second round of max and min: discovery again, under the guided model of the first."""

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

from invdiff.app.cli import main
from invdiff.engine.base_model.loading import ModelRef
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.sampling.sampler import Sampler
from invdiff.engine.workflow import do_stage
from invdiff.model.lora import adapter_file
from tests import tiny_world
from tests.tiny_world import HAT, copy_of


def strengthened(run, factor=100.0):
    """Make the adapter of a run, which a few steps trained, one whose guidance can be seen."""
    path = run / "adapter" / adapter_file.FILE
    weights = tiny_world.tensors(path)
    with safe_open(path, "pt") as file:
        header = {k: v for k, v in file.metadata().items() if k != adapter_file.HASH_KEY}
    larger = {k: v * factor if ".lora_B." in k else v for k, v in weights.items()}
    save_file(larger, path, metadata=header)
    tiny_world.resealed(run)


def test_the_guided_model_is_the_base_of_the_next_round(world, finished, tmp_path):
    first, out = copy_of(finished, tmp_path / "first"), tmp_path / "export"
    strengthened(first)
    as_drawn = ["--format", "merged", "--strength", "1"]
    assert main(["export", str(first), "--out", str(out), *as_drawn]) == 0
    merged = out / "merged"

    def drawn(model, folder=None):
        source = ModelRef(str(model), "cpu", "float32")
        sampler = Sampler(source, folder, 1.0 if folder else 0.0, (0.0, 1.0), 2.5, 2)
        return sampler.pictures([HAT] * 3, [1, 2, 3]).astype(int)

    guided = drawn(world.model, first / "adapter")
    assert np.abs(drawn(merged) - guided).max() <= 1, "its base is what was guided"
    assert np.abs(drawn(world.model) - guided).max() > 5

    second = RunFolder.open(tmp_path / "second", tiny_world.settings(merged, world.data))
    do_stage(second, "discover")
    one, other = (tiny_world.table(run / "scores.parquet") for run in (first, second.path))
    assert one["sample_id"].tolist() == other["sample_id"].tolist()
    assert not np.allclose(one["loss"], other["loss"], rtol=0.01), "scored under the guided model"
