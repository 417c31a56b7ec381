"""Fixtures of the tests of models."""

import pytest

from tests.model import tiny
from tests.model.composing import saved


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An adapter for the tiny Stable Diffusion."""
    return saved(tiny.pipeline().unet, tmp_path_factory.mktemp("adapter"))
