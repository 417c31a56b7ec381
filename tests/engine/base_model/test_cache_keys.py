"""Weights are told apart by their bytes, wherever in a file they differ."""

import pytest

from invdiff.engine.base_model.cache_keys import BLOCK, BLOCKS, fingerprint


@pytest.mark.parametrize("size", [10, BLOCK, BLOCK + 10, 5 * BLOCK - 7, BLOCKS * BLOCK])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 1.0])
def test_every_byte_of_a_small_file_counts(tmp_path, size, place):
    path = tmp_path / "unet" / "weights"
    path.parent.mkdir()
    content = bytearray(size)
    path.write_bytes(content)
    before = fingerprint(tmp_path, ["unet"])
    content[round(place * (size - 1))] = 1
    path.write_bytes(content)
    assert fingerprint(tmp_path, ["unet"]) != before


def test_other_parts_do_not_count_and_names_do(tmp_path):
    for part in ("unet", "vae"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "weights").write_bytes(b"x")
    before = fingerprint(tmp_path, ["unet"])
    (tmp_path / "vae" / "weights").write_bytes(b"y")
    assert fingerprint(tmp_path, ["unet"]) == before
    (tmp_path / "unet" / "weights").rename(tmp_path / "unet" / "other")
    assert fingerprint(tmp_path, ["unet"]) != before
