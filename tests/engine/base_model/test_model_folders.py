"""Folders of every family: the broken ones are refused in one line, the unusual ones are read."""

import json
import shutil
from contextlib import suppress

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from invdiff.app.api import Run
from invdiff.engine.base_model import loading
from invdiff.engine.base_model.loading import ModelRef, resolve
from invdiff.engine.base_model.offloading import require_drawable
from invdiff.engine.preflight import doctor
from invdiff.engine.preflight.memory import estimate_memory
from invdiff.engine.settings import config as configuration
from invdiff.errors import InvDiffError, ModelError
from tests import tiny_world
from tests.model import tiny_families

FAMILIES = list(tiny_families.BUILDERS)
PROMPTS = ["a hat", ""]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        tiny_families.pipeline(name).save_pretrained(place / name)
    return place


@pytest.fixture(params=FAMILIES)
def whole(request, saved):
    return saved / request.param


@pytest.fixture
def folder(whole, tmp_path):
    loading._load.cache_clear()
    yield shutil.copytree(whole, tmp_path / "model")
    loading._load.cache_clear()


def used(folder):
    """All parts at work: latents of a picture and what is predicted from them."""
    model = resolve(ModelRef(str(folder), "cpu", "float32"))
    latents = model.encode_images(np.full((2, model.image_size, model.image_size, 3), 77, np.uint8))
    model.text_embedding(PROMPTS)
    with torch.no_grad():
        said = model.predict(latents, torch.tensor([900, 100]), model.encode_prompts(PROMPTS))
    assert isinstance(said, torch.Tensor)
    return said


def network(folder):
    return next(folder / name for name in ("unet", "transformer") if (folder / name).is_dir())


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights(folder):
    return sorted(folder.rglob("*.safetensors"))


def missing(part):
    return lambda folder: shutil.rmtree(folder / part if part else network(folder))


def truncated(folder):
    path = weights(network(folder))[0]
    path.write_bytes(path.read_bytes()[:1000])


def halved(part):
    def change(folder):
        path = weights(folder / part if part else network(folder))[0]
        tensors = load_file(path)
        save_file({name: tensors[name] for name in sorted(tensors)[::2]}, path, {"format": "pt"})

    return change


def file_for_a_component(folder):
    shutil.rmtree(folder / "vae")
    (folder / "vae").write_text("not a folder")


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("one file")


def without_tokenizer_files(folder):
    for path in (folder / "tokenizer").iterdir():
        path.unlink()


def another_scheduler(name):
    def change(folder):
        index = json.loads((folder / "model_index.json").read_text())
        rewrite(folder / "model_index.json", scheduler=[index["scheduler"][0], name])
        settings = {"_class_name": name, "num_train_timesteps": 1000, "steps_offset": 1}
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))

    return change


def oblong(folder):
    rewrite(network(folder) / "config.json", sample_size=[8, 12])


BROKEN = {
    "no denoiser": missing(""),
    "no autoencoder": missing("vae"),
    "no text encoder": missing("text_encoder"),
    "no tokenizer": missing("tokenizer"),
    "no scheduler": missing("scheduler"),
    "no tokenizer files": without_tokenizer_files,
    "no vocabulary": lambda folder: (folder / "tokenizer" / "tokenizer.json").unlink(),
    "no weights": lambda folder: weights(network(folder))[0].unlink(),
    "weights cut off": truncated,
    "weights emptied": lambda folder: weights(network(folder))[0].write_bytes(b""),
    "weights of half of the denoiser": halved(""),
    "weights of half of the text encoder": halved("text_encoder"),
    "weights of half of the autoencoder": halved("vae"),
    "a file for a component": file_for_a_component,
    "index is no JSON": lambda folder: (folder / "model_index.json").write_text("{"),
    "index is a list": lambda folder: (folder / "model_index.json").write_text("[]"),
    "index is not UTF-8": lambda folder: (folder / "model_index.json").write_bytes(b"\xff\xfe{"),
    "settings are no JSON": lambda folder: (network(folder) / "config.json").write_text("{"),
    "settings are a list": lambda folder: (network(folder) / "config.json").write_text("[]"),
    "settings are of another network": lambda folder: rewrite(
        network(folder) / "config.json", in_channels=5
    ),
    "scheduler is not known": another_scheduler("NoSuchScheduler"),
    "scheduler has no noise levels": another_scheduler("EDMEulerScheduler"),
    "empty folder": emptied,
    "a file": a_file,
}


# Of the larger ones only what is read in another way than of the others.
LARGE = ("qwen-image", "z-image", "flux2-klein", "flux2", "chroma")
HARMS = [(family, harm) for family in FAMILIES if family not in LARGE for harm in BROKEN]
HARMS += [
    (family, f"weights of half of the {part}")
    for family in LARGE[:3]
    for part in ("denoiser", "text encoder", "autoencoder")
]


@pytest.mark.parametrize(("whole", "harm"), HARMS, indirect=["whole"])
def test_a_broken_folder_is_refused_in_one_line(folder, harm):
    BROKEN[harm](folder)
    with pytest.raises(InvDiffError) as told:
        used(folder)
    assert "\n" not in str(told.value)
    assert any(word in str(told.value) for word in (str(folder), "scheduler", "of the model"))
    config = configuration.load({"model": {"path": str(folder), "device": "cpu"}})
    assert all("\n" not in problem for problem in doctor.examine(config).problems)
    with suppress(ModelError):  # a scheduler has no size, and no weight is read
        estimate_memory(config)


def in_half_precision(folder, parts=None):
    for path in weights(parts or folder):
        path.rename(path.with_suffix(f".fp16{path.suffix}"))


def in_both(folder):
    for path in weights(folder):
        shutil.copy(path, path.with_suffix(f".fp16{path.suffix}"))


def silent_tokenizers(folder):
    for path in folder.glob("tokenizer*/tokenizer_config.json"):
        settings = json.loads(path.read_text())
        settings.pop("model_max_length", None)
        path.write_text(json.dumps(settings))


def size_as_a_pair(folder):
    path = network(folder) / "config.json"
    size = json.loads(path.read_text())["sample_size"]
    rewrite(path, sample_size=[size, size])


UNUSUAL = {
    "variant fp16": in_half_precision,
    "variant fp16 of the denoiser alone": lambda folder: in_half_precision(folder, network(folder)),
    "plain and fp16": in_both,
    "tokenizers without a length": silent_tokenizers,
    "size as a pair": size_as_a_pair,
}


@pytest.mark.parametrize("change", UNUSUAL)
def test_an_unusual_folder_is_read_like_the_usual_one(folder, whole, change):
    if change == "size as a pair" and network(folder).name == "transformer":
        pytest.skip("diffusers' transformers know numbers alone")
    if whole.name in LARGE and change != "variant fp16 of the denoiser alone":
        pytest.skip("the smaller families are read by the same code")
    UNUSUAL[change](folder)
    config = configuration.load({"model": {"path": str(folder), "device": "cpu"}})
    assert doctor.examine(config).problems == []
    assert torch.equal(used(folder), used(whole))
    loading._load.cache_clear()


def test_a_size_that_is_not_square_is_refused(folder, whole):
    if whole.name in ("flux", *LARGE):
        pytest.skip("it has no size of its own")
    oblong(folder)
    told = "sample_size of 8 x 12, and InvDiff works on square pictures"
    unet = network(folder).name == "unet"
    with pytest.raises(ModelError, match=told if unet else "cannot load"):
        used(folder)
    with pytest.raises(ModelError, match=told):
        estimate_memory(configuration.load({"model": {"path": str(folder)}}))


@pytest.mark.parametrize(
    ("method", "package"), [("bitsandbytes", "bitsandbytes"), ("quanto", "optimum-quanto")]
)
def test_a_quantised_folder_names_the_library_it_needs(saved, tmp_path, method, package):
    loading._load.cache_clear()
    folder = shutil.copytree(saved / "sd3", tmp_path / "model")
    rewrite(network(folder) / "config.json", quantization_config={"quant_method": method})
    told = f"transformer is quantised with {method}, which is not installed: pip install {package}"
    with pytest.raises(ModelError, match=told):
        used(folder)
    config = configuration.load({"model": {"path": str(folder), "device": "cpu"}})
    assert any(told in problem for problem in doctor.examine(config).problems)


def test_a_folder_for_inpainting_is_refused_before_it_is_loaded(saved, tmp_path):
    folder = shutil.copytree(saved / "sd3", tmp_path / "model")
    rewrite(network(folder) / "config.json", in_channels=9)
    config = configuration.load({"model": {"path": str(folder), "device": "cpu"}})
    assert any("takes 9 channels" in problem for problem in doctor.examine(config).problems)
    with pytest.raises(ModelError, match="takes 9 channels"):
        estimate_memory(config)


@pytest.mark.parametrize("size", ["wide", None, []])
def test_a_size_that_is_no_number_is_one_line(saved, tmp_path, size):
    loading._load.cache_clear()
    folder = shutil.copytree(saved / "sd-epsilon", tmp_path / "model")
    rewrite(network(folder) / "config.json", sample_size=size)
    with pytest.raises(ModelError, match=r"cannot use model\.path") as told:
        resolve(ModelRef(str(folder), "cpu", "float32"))
    assert "\n" not in str(told.value)
    config = configuration.load({"model": {"path": str(folder), "device": "cpu"}})
    assert all("\n" not in problem for problem in doctor.examine(config).problems)


def test_steps_that_the_scheduler_does_not_take_are_refused_before_any_work(saved, tmp_path):
    loading._load.cache_clear()
    folder = shutil.copytree(saved / "sd-epsilon", tmp_path / "model")
    another_scheduler("PNDMScheduler")(folder)
    model = resolve(ModelRef(str(folder), "cpu", "float32"))
    with pytest.raises(ModelError, match="PNDMScheduler takes no 3 steps: set the number"):
        require_drawable(model, 3)
    require_drawable(model, 4)
    for name in ("flux", "sana"):
        require_drawable(resolve(ModelRef(str(saved / name), "cpu", "float32")), 1)


def test_a_run_is_refused_for_its_steps_before_any_work(saved, tmp_path):
    loading._load.cache_clear()
    folder = shutil.copytree(saved / "sd-epsilon", tmp_path / "model")
    another_scheduler("PNDMScheduler")(folder)
    data = tiny_world.pictures(tmp_path / "data", count=2)
    run = Run(tmp_path / "run", tiny_world.settings(folder, data, "sample.steps=3"))
    with pytest.raises(ModelError, match="PNDMScheduler takes no 3 steps"):
        run.discover()
    assert not (run.path / "cache").exists()


def test_weights_that_were_cut_off_are_told_of_before_they_are_needed(saved, tmp_path):
    loading._load.cache_clear()
    folder = shutil.copytree(saved / "sd-epsilon", tmp_path / "model")
    truncated(folder)
    with pytest.raises(ModelError, match=r"unet/.* is damaged: give a whole copy"):
        resolve(ModelRef(str(folder), "cpu", "float32"))


def test_a_misspelt_path_has_its_hint_before_the_librarys_words(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError) as told:
        resolve(ModelRef("nobody/no-such-model", "cpu", "float32"))
    line = str(told.value)
    assert line.startswith("cannot load model.path 'nobody/no-such-model': hf download nobody/no-")
    assert len(line) < 350
