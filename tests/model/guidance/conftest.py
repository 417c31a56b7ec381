"""The tiny pipeline, and what it draws without an adapter."""

import pytest

from tests.model import tiny
from tests.model.composing import draw


@pytest.fixture
def pipe():
    return tiny.pipeline()


@pytest.fixture(scope="module")
def base():
    return draw(tiny.pipeline())
