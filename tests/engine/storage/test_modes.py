"""Files have the mode that the umask gives, whatever library wrote them."""

import os

import pytest
import torch
from safetensors.torch import save_file

from invdiff.engine.storage.checkpoint import save_checkpoint
from invdiff.engine.storage.files import write_json, write_with
from invdiff.engine.storage.hashed_tensors import write_hashed

TENSORS = {"a": torch.zeros(2)}


@pytest.fixture(params=[0o022, 0o027, 0o077])
def mode(request):
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_with(folder / "a.safetensors", lambda to: save_file(TENSORS, to)),
        lambda folder: write_hashed(folder / "a.safetensors", TENSORS, {"about": "nothing"}),
        lambda folder: save_checkpoint(folder, 1, TENSORS, {}),
        lambda folder: write_json(folder / "a.json", {}),
    ],
)
def test_files_get_the_mode_of_the_umask(write, mode, tmp_path):
    write(tmp_path)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert found
    assert {path.stat().st_mode & 0o777 for path in found} == {mode}
