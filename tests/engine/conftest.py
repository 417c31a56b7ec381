"""The tiny world and short trainings of it, for the tests of this folder."""

from tests.engine.training_runs import discovered, plain, trainer
from tests.tiny_world import finished, world

__all__ = ["discovered", "finished", "plain", "trainer", "world"]
