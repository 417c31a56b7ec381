"""The doctor: what is there, what is missing, and the command that gets it."""

import dataclasses
import json
import shutil

import pytest

from invdiff.engine.preflight import doctor
from invdiff.engine.settings import config as configuration
from invdiff.errors import ModelError
from invdiff.model.sizing.description import missing_parts
from tests.engine.preflight.captioned import write_captioned
from tests.model import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copy")


def settings(model, *overrides):
    return configuration.load({"model": {"path": str(model), "device": "cpu"}}, overrides)


def test_a_run_that_can_begin_has_no_problems(model):
    found = doctor.examine(settings(model))
    assert found.problems == []
    assert found.model == {"name": str(model), "folder": str(model), "problem": None}
    assert found.estimate.memory["train"] > 0
    assert found.environment["versions"]["torch"]
    assert found.devices[-1].name == "cpu"
    assert found.devices[-1].memory > 2**30
    json.dumps(dataclasses.asdict(found))


def test_the_size_of_the_data_is_told(model, tmp_path):
    pictures = write_captioned(tmp_path / "own", ["a hat"] * 3 + ["a coat"] * 2)
    own = [f"data.path={pictures}", "data.prompt_groups=caption"]
    found = doctor.examine(settings(model, *own))
    assert (found.data, found.problems) == (f"{pictures}, 5 pictures of 2 prompts", [])
    assert doctor.examine(settings(model)).data == "faces, 8,000 pictures of 4 prompts"


def test_only_savings_that_are_not_made_yet_are_advised(model, monkeypatch):
    monkeypatch.setattr(doctor, "_memory", lambda: 1000)
    made = ["model.dtype=bfloat16", "train.gradient_checkpointing=true", "train.batch_size=64"]
    made += ["train.gradient_accumulation_steps=64", "sample.batch_size=1", "discover.batch_size=1"]
    (told,) = doctor.examine(settings(model, *made)).problems
    assert "bfloat16" not in told
    assert "checkpointing" not in told
    assert told.endswith("lower data.image_size")
    (told,) = doctor.examine(settings(model)).problems
    assert "take model.dtype bfloat16" in told


def test_without_a_configuration_only_the_computer_is_looked_at():
    found = doctor.examine()
    assert (found.model, found.estimate, found.problems) == (None, None, [])


def test_every_problem_is_told_with_its_way_out(monkeypatch):
    monkeypatch.setattr(doctor, "_memory", lambda: 10**9)
    monkeypatch.setitem(doctor.NEEDED, "missing-thing", "no_such_module")
    overrides = ["data.path=nowhere", "model.path=me/stable-diffusion-v1-9", "data.image_size=64"]
    text = "\n".join(doctor.examine(settings("x", *overrides)).problems)
    for told in (
        "missing-thing cannot be imported: pip install missing-thing",
        "me/stable-diffusion-v1-9 is not on this computer: hf download me/stable-diffusion-v1-9",
        "nowhere does not exist; give a folder of pictures",
        "GB are needed and cpu has 1 GB: lower sample.batch_size, or take model",
    ):
        assert told in text


def test_a_path_is_not_something_to_download(tmp_path):
    problems = doctor.examine(settings(tmp_path / "gone")).problems
    assert problems == [
        f"the model {tmp_path}/gone is not on this computer: give --model.path a diffusers folder"
    ]


def test_a_device_that_is_not_here_is_told(model, monkeypatch):
    monkeypatch.setattr(doctor, "devices", lambda: [doctor.Device("cpu", "2 processors", None)])
    found = doctor.examine(settings(model, "model.device=cuda"))
    assert found.problems == ["model.device is 'cuda', which is not here: use auto"]


def test_missing_weights_of_a_component_are_named(copy):
    assert missing_parts(copy) == []
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.rmtree(copy / "tokenizer")
    assert sorted(missing_parts(copy)) == ["tokenizer", "unet"]
    found = doctor.examine(settings(copy))
    assert f"the model {copy} lacks files of" in found.problems[0]


def test_a_missing_shard_is_noticed(copy):
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(copy / "unet" / "model-1-of-2.safetensors")
    path.with_name("model.safetensors.index.json").write_text(json.dumps(index))
    assert missing_parts(copy) == ["unet"]
    (copy / "unet" / "model-2-of-2.safetensors").touch()
    assert missing_parts(copy) == []


def test_a_damaged_model_is_a_problem_not_a_crash(copy):
    (copy / "model_index.json").write_text("{")
    found = doctor.examine(settings(copy))
    assert any("is damaged" in problem for problem in found.problems)


def test_the_cache_is_listed(tmp_path, monkeypatch):
    blobs = tmp_path / "models--me--cached" / "blobs"
    blobs.mkdir(parents=True)
    snapshot = tmp_path / "models--me--cached" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (blobs / "one").write_bytes(b"12345")
    (snapshot / "file.bin").symlink_to(blobs / "one")
    (tmp_path / "models--me--cached" / "refs").mkdir()
    (tmp_path / "models--me--cached" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path))
    assert doctor.cached_models() == [{"name": "me/cached", "bytes": 5}]
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "no"))
    assert doctor.cached_models() == []


def test_an_unknown_family_is_a_problem(model, monkeypatch):
    def refuse(config):
        raise ModelError("what OddModel takes is not known")

    monkeypatch.setattr(doctor, "estimate_memory", refuse)
    assert doctor.examine(settings(model)).problems == ["what OddModel takes is not known"]


def test_a_set_that_was_not_built_is_told_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setenv("INVDIFF_SETS", str(tmp_path))
    assert doctor.examine(configuration.preset("scenes")).problems[:2] == [
        "the model scenes is not on this computer: invdiff data build scenes",
        f"the set scenes is not in {tmp_path}: make it with `invdiff data build scenes`, or set "
        "INVDIFF_SETS to the folder that it was built in",
    ]
