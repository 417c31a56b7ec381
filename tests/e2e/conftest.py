"""The tiny world, for the tests of this folder."""

from tests.tiny_world import finished, world

__all__ = ["finished", "world"]
