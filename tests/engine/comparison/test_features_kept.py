"""Features are kept for pictures and for the way in which they were read."""

import pytest

from invdiff.data.gallery import open_gallery
from invdiff.engine.comparison import features
from invdiff.model.vision.extractors import Preparation
from tests.data import tiny_sources


def test_pictures_that_are_read_in_another_way_are_looked_at_again(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier version made of a wide colour space is not what this one makes of it."""
    tiny_sources.write_pictures(tmp_path / "own", ["a.png", "b.png"])
    gallery, seen = open_gallery(tmp_path / "own"), []

    def look(self, pictures):
        seen.append(len(pictures))
        return usual(self, pictures)

    usual = features.Look.__call__
    monkeypatch.setattr(features.Look, "__call__", look)
    how = (features.Look("pixels", tmp_path, Preparation()), gallery, 0, tmp_path / "kept", 1)
    first = features.features_of_all(*how)
    assert (features.features_of_all(*how) == first).all()
    assert seen == [2]
    monkeypatch.setattr(features, "READ_AS", "as they are")
    features.features_of_all(*how)
    assert seen == [2, 2]
