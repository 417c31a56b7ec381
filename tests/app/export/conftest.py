"""What every test of the export starts from: a model, a run, an adapter alone."""

import pytest

from invdiff.model.lora import adapter, adapter_file
from tests.app.report_fixture import write_run
from tests.model import tiny
from tests.model.formats.test_kohya import trained


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A pipeline on the disk."""
    folder = tmp_path_factory.mktemp("model")
    tiny.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, model):
    """A run with every stage done on paper, and a real adapter."""
    run = write_run(tmp_path_factory.mktemp("run"))
    text = (run.path / "config.toml").read_text()
    lines = text.replace('path = "faces"', f'path = "{model}"', 1).rpartition("# ")[0]
    run.seals.write_settings(lines)
    unet = tiny.pipeline().unet
    adapter.add_lora(unet, 4, seed=0)
    tiny.move(unet)
    settings = {"recommended_strength": 1.0, "base_model": str(model), "rank": 4}
    adapter_file.save(unet, run.path / "adapter", settings)
    (run.path / "report.html").write_text("<h1>audit</h1>")
    return run.path


@pytest.fixture
def bare(tmp_path):
    """An adapter folder without a run, whose header names no base."""
    trained(tiny.pipeline().unet, tmp_path / "adapter")
    return tmp_path / "adapter"
