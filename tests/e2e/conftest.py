"""The tiny world, for the tests of this folder."""

import pytest

from invdiff.engine.settings.config import dump
from tests.tiny_world import finished, world

__all__ = ["finished", "world"]


@pytest.fixture
def command(world, tmp_path):
    """`invdiff run` with a settings file of the tiny world."""
    (tmp_path / "tiny.toml").write_text(dump(world.config()))
    return ["run", "--config", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "run")]
