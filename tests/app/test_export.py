"""`invdiff export`: a whole folder or none, files that other tools read, a card that tells all."""

import json
import os
import re
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from peft import PeftModel
from safetensors import safe_open

import invdiff
from invdiff.app.cli import main
from invdiff.app.export import export
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.storage.files import read_json, write_json
from invdiff.engine.storage.seals import Seals
from invdiff.errors import ConfigError, InvDiffError, ModelError, RunError
from invdiff.model.formats import kohya
from invdiff.model.guidance.hook import guidance_of
from invdiff.model.lora import adapter, adapter_file
from tests.app.report_fixture import write_run
from tests.model import tiny
from tests.model.formats.test_kohya import draw, trained

LORAS = {adapter_file.FILE, kohya.FILE, "adapter_model.safetensors"}
PEFT = "adapter_config.json"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A pipeline on the disk."""
    folder = tmp_path_factory.mktemp("model")
    tiny.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, model):
    """A run with every stage done on paper, and a real adapter."""
    run = write_run(tmp_path_factory.mktemp("run"))
    text = (run.path / "config.toml").read_text()
    lines = text.replace('path = "faces"', f'path = "{model}"', 1).rpartition("# ")[0]
    run.seals.write_settings(lines)
    unet = tiny.pipeline().unet
    adapter.add_lora(unet, 4, seed=0)
    tiny.move(unet)
    settings = {"recommended_strength": 1.0, "base_model": str(model), "rank": 4}
    adapter_file.save(unet, run.path / "adapter", settings)
    (run.path / "report.html").write_text("<h1>audit</h1>")
    return run.path


@pytest.fixture
def bare(tmp_path):
    """An adapter folder without a run, whose header names no base."""
    trained(tiny.pipeline().unet, tmp_path / "adapter")
    return tmp_path / "adapter"


def header(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_run_is_exported_verified_and_described(run, tmp_path, capsys):
    out = tmp_path / "out"
    formats = [
        word for name in ("diffusers", "kohya", "peft", "merged") for word in ("--format", name)
    ]
    assert main(["export", str(run), "--out", str(out), *formats, "--verify"]) == 0
    told = capsys.readouterr().out.splitlines()
    others = {"merged", "README.md", "report.html", "verification.json", PEFT}
    assert names(out) == LORAS | others
    assert [line.split(":")[0] for line in told] == [
        adapter_file.FILE,
        kohya.FILE,
        "adapter_model.safetensors",
        "merged/",
        str(out),
    ]
    assert all(": ok, 77 of 77 layers matched" in line for line in told[:4])
    checks = read_json(out / "verification.json")
    assert all(check["ok"] and check["difference"] < 1e-3 < check["effect"] for check in checks)


def test_what_was_exported_draws_the_same_pictures(run, model, tmp_path):
    ours, stock = tiny.pipeline(), tiny.pipeline()
    base = draw(ours)
    invdiff.attach(ours, run / "adapter", strength=1.0)
    expected = draw(ours)
    export(run, tmp_path / "out")
    assert np.abs(expected - base).max() > 0.01
    stock.load_lora_weights(tmp_path / "out" / adapter_file.FILE)
    assert np.array_equal(draw(stock), expected)
    stock.unload_lora_weights()
    stock.load_lora_weights(tmp_path / "out" / kohya.FILE)
    assert np.abs(draw(stock) - expected).max() < 1e-5


def test_the_header_has_the_settings_and_no_path_of_this_computer(run, model, tmp_path):
    export(run, tmp_path / "out", repo="me/balanced")
    for name in LORAS:
        found = header(tmp_path / "out" / name)
        assert found["modelspec.title"] == "InvDiff adapter"
        assert "huggingface.co/me/balanced/blob/main/report.html" in found["modelspec.usage_hint"]
        settings = json.loads(found["invdiff"])
        assert settings["recommended_strength"] == 1.0
        assert settings["window"] == [0.0, 1.0]
        assert settings["guidance_scale"] == 2.5
        assert settings["rank"] == 4
        assert settings["base_model"] is None
        assert str(model) not in "".join(found.values())
    assert str(model) not in (tmp_path / "out" / "README.md").read_text()


def test_the_card_has_everything_a_stranger_needs(run, tmp_path):
    export(run, tmp_path / "out", strength=0.75)
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: diffusers\n")
    for part in (
        "- template:sd-lora",
        "# InvDiff adapter",
        "**Adapter strength 0.75 is in the files: load them at weight 1**, at noise levels 0 to 1",
        "calibrated at guidance scale 2.5",
        f'pipe.load_lora_weights("path/to/this/folder", weight_name="{adapter_file.FILE}")',
        "ComfyUI",
        f"<lora:{kohya.FILE.split('.')[0]}:1>",
        "8,000 training pictures of 4 prompts",
        "| a person wearing a hat | 2,000 | 10% (8 to 12%) |",
        "| a person wearing a headband | 2,000 | none stood out |",
        "Guidance scale 1, classifier-estimated, 95% intervals:",
        "## Limits",
        "one run, with seed 0",
        "report.html beside this file",
        "not loaded again for verification",
    ):
        assert part in text, part
    row = next(line for line in text.splitlines() if "wearing a hat: male" in line)
    cell = r"\d+% \(\d+ to \d+%\), \d+ of 400 pictures"
    assert re.fullmatch(rf"\| .* \| {cell} \| {cell} \|", row)
    bias = next(line for line in text.splitlines() if line.startswith("| Bias"))
    assert re.search(r"0\.\d\d \(0\.\d\d to 0\.\d\d\), 1,600 pictures", bias)
    assert "unbiased" not in text


def test_a_card_without_a_classifier_tells_the_estimated_gap(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    metrics = read_json(tmp_path / "run" / "metrics.json")
    for scales in metrics["arms"].values():
        for arm in scales.values():
            arm["shares"] = arm["bias"] = None
    write_json(tmp_path / "run" / "metrics.json", metrics)
    export(tmp_path / "run", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "0.78 (95% interval 0.72 to 0.84), 256 pictures before; 0.09 (95% interval" in text
    assert "at adapter strength 1." in text


def test_captions_of_single_pictures_stay_out_of_the_card(run, tmp_path):
    """Groups by meaning are called by a caption, and the card of a repository is for everybody."""
    shutil.copytree(run, tmp_path / "run")
    found = read_json(tmp_path / "run" / "discovery.json")
    groups = {"by": "meaning", "count": 4, "silhouettes": {}}
    write_json(tmp_path / "run" / "discovery.json", found | {"prompt_groups": groups})
    export(tmp_path / "run", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert not [name for name in found["prompts"] if name in text]
    assert "| prompt group 2 | 2,000 |" in text
    assert "| prompt group 1: male |" in text


def test_a_merged_pipeline_on_the_hub_is_downloaded_first(bare, tmp_path):
    for repo, load in {
        "me/balanced": "`hf download me/balanced --local-dir balanced`, then "
        '`DiffusionPipeline.from_pretrained("balanced/merged")`',
        None: '`DiffusionPipeline.from_pretrained("path/to/this/folder/merged")`',
    }.items():
        out = tmp_path / (repo or "local")
        export(bare, out, ["merged"], pipeline=tiny.pipeline(), repo=repo)
        assert load in (out / "README.md").read_text()


def test_nothing_of_the_current_folder_gets_into_a_merged_model(bare, tmp_path, monkeypatch):
    """A tokenizer that was made in memory tells no place, which is not the place we are in."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "private.txt").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    export(bare, tmp_path / "out", ["merged"], pipeline=tiny.pipeline())
    assert not [*(tmp_path / "out").rglob("private.txt")]


@pytest.fixture
def old_model(tmp_path, model):
    """The pipeline as earlier libraries left it: a vocabulary beside the tokenizer, a variant."""
    folder = tmp_path / "old"
    shutil.copytree(model, folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).write_text("what transformers 4 opens")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(
        folder / "vae" / "diffusion_pytorch_model.fp16.safetensors"
    )
    (folder / "README.md").write_text("not a part")
    return folder


def test_all_but_the_denoiser_of_a_merged_model_is_copied_as_it_is(
    run, old_model, model, tmp_path, monkeypatch
):
    """What transformers 5 saves of a tokenizer, transformers 4 can't open."""
    monkeypatch.setattr(
        "invdiff.engine.export.formats.base_pipeline",
        lambda source: DiffusionPipeline.from_pretrained(model),
    )
    export(run, tmp_path / "out", ["merged"], model=str(old_model))
    made = tmp_path / "out" / "merged"
    weights = "unet/diffusion_pytorch_model.safetensors"
    for file in filter(Path.is_file, old_model.rglob("*")):
        name = str(file.relative_to(old_model))
        if name not in (weights, "README.md"):
            assert (made / name.replace(".fp16", "")).read_bytes() == file.read_bytes()
    assert (made / weights).read_bytes() != (old_model / weights).read_bytes()
    assert "README.md" not in names(made)
    DiffusionPipeline.from_pretrained(made)


def test_a_pipeline_that_was_passed_keeps_its_vocabulary(bare, old_model, model, tmp_path):
    pipe = tiny.pipeline()
    pipe.tokenizer.name_or_path = str(old_model / "tokenizer")
    export(bare, tmp_path / "out", ["merged"], pipeline=pipe)
    told = (tmp_path / "out" / "merged" / "tokenizer" / "merges.txt").read_text()
    assert told == "what transformers 4 opens"


def test_peft_opens_the_folder(bare, tmp_path):
    pipe, ours = tiny.pipeline(), tiny.pipeline()
    invdiff.attach(ours, bare)
    export(bare, tmp_path / "out", pipeline=tiny.pipeline())
    PeftModel.from_pretrained(pipe.unet, tmp_path / "out")
    assert np.array_equal(draw(pipe), draw(ours))


def test_a_model_of_the_hub_needs_no_weights_to_be_exported_for(bare, model, tmp_path, monkeypatch):
    asked = []

    def snapshot(name, allow_patterns):
        asked.append(name)
        for file in model.rglob("*.json"):
            to = tmp_path / "hub" / file.relative_to(model)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
        return str(tmp_path / "hub")

    def refuse(*_):
        raise AssertionError("the weights were asked for")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr("invdiff.engine.export.formats.load_pipeline", refuse)
    export(bare, tmp_path / "out", model="me/own-model")
    assert asked == ["me/own-model"]
    found = header(tmp_path / "out" / kohya.FILE)
    assert found["modelspec.architecture"] == "stable-diffusion-v1/lora"
    export(bare, tmp_path / "known", model="runwayml/stable-diffusion-v1-5")
    assert asked == ["me/own-model"]


def test_a_built_in_model_that_is_not_built_is_not_asked_for(bare, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr("invdiff.data.sets.builtin.set_folder", lambda name: tmp_path / name)
    with pytest.raises(InvDiffError, match="faces"):
        export(bare, tmp_path / "out", model="faces")


def test_a_model_that_nobody_knows_is_one_line(bare, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(RunError, match=r"me/own-model .*\(no route to the hub\): .*--model"):
        export(bare, tmp_path / "out", model="me/own-model")
    assert names(tmp_path) == {"adapter"}


def test_files_have_the_mode_of_any_new_file(run, tmp_path):
    before = os.umask(0o027)
    try:
        export(run, tmp_path / "out", ["diffusers", "kohya", "peft", "merged"])
        unet = tiny.pipeline().unet
        adapter.add_lora(unet, 4, seed=0)
        adapter_file.save(unet, tmp_path / "adapter", {})
        adapter_file.write_settings(tmp_path / "adapter", recommended_strength=1.5)
    finally:
        os.umask(before)
    for root in ("out", "adapter"):
        modes = {p: p.stat().st_mode & 0o777 for p in (tmp_path / root).rglob("*") if p.is_file()}
        assert set(modes.values()) == {0o640}, modes


@pytest.fixture
def calibrated(run, model, tmp_path):
    """The run with an adapter of small weights, as training makes them, and 1.5 calibrated."""
    shutil.copytree(run, tmp_path / "run")
    unet = tiny.pipeline().unet
    adapter.add_lora(unet, 4, seed=0)
    tiny.move(unet)
    for name, weight in adapter.named_parameters(unet):
        weight.data *= 0.2 if "lora_B" in name else 1
    settings = {"base_model": str(model), "strength_scales": "weights"}
    adapter_file.save(unet, tmp_path / "run" / "adapter", settings)
    told = {"recommended_strength": 1.5, "window": [0.0, 1.0]}
    adapter_file.write_settings(tmp_path / "run" / "adapter", **told)
    calibration_says(tmp_path / "run", 1.5)
    return tmp_path / "run"


def calibration_says(run, strength):
    path = run / "adapter" / "calibration.json"
    write_json(path, read_json(path) | {"strength": strength})


def test_every_file_draws_at_weight_one_what_was_calibrated(calibrated, tmp_path):
    """Files that gave strength 1 where 1.5 was reported left most of the gap where it was."""
    base, once, reported = tiny.pipeline(), tiny.pipeline(), tiny.pipeline()
    invdiff.attach(once, calibrated / "adapter", strength=1.0)
    invdiff.attach(reported, calibrated / "adapter")
    reported, uncalibrated, before = draw(reported), draw(once), draw(base)
    effect = np.abs(reported - before).mean()
    out = tmp_path / "out"
    export(calibrated, out, ["diffusers", "kohya", "peft", "merged"])
    drawn = {}
    for folder, name in (
        (calibrated / "adapter", adapter_file.FILE),
        (out, adapter_file.FILE),
        (out, kohya.FILE),
    ):
        pipe = tiny.pipeline()
        pipe.load_lora_weights(folder, weight_name=name)
        drawn[folder / name] = draw(pipe)
    pipe = tiny.pipeline()
    PeftModel.from_pretrained(pipe.unet, out)
    drawn["peft"] = draw(pipe)
    drawn["merged"] = draw(DiffusionPipeline.from_pretrained(out / "merged"))
    for name, pictures in drawn.items():
        assert np.abs(pictures - reported).max() < 1e-4, name
    assert np.abs(uncalibrated - reported).mean() / effect > 0.3
    for folder in (calibrated / "adapter", out):  # InvDiff takes the scale out again: exact
        pipe = tiny.pipeline()
        invdiff.attach(pipe, folder)
        assert np.abs(draw(pipe) - reported).max() < 1e-4
        invdiff.detach(pipe)
        invdiff.attach(pipe, folder, strength=1.0)
        assert np.abs(draw(pipe) - uncalibrated).max() < 1e-4


def test_of_an_adapter_of_before_the_file_is_told_to_approximate(calibrated, tmp_path):
    """Its report scaled the prediction, and weight 1 of its files only comes near that."""
    lora = adapter_file.read(calibrated / "adapter")
    del lora.settings["strength_scales"]
    adapter_file._write(lora.at(1.5), calibrated / "adapter")
    export(calibrated, tmp_path / "out", verify=True)
    assert "only approximates: pictures differ by" in (tmp_path / "out" / "README.md").read_text()
    checks = read_json(tmp_path / "out" / "verification.json")
    assert all(check["ok"] and 0 < check["approximation"] < 0.5 for check in checks)


def test_the_strength_is_told_and_another_one_can_be_asked_for(calibrated, tmp_path):
    export(calibrated, tmp_path / "out", verify=True)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "**Adapter strength 1.5 is in the files: load them at weight 1**" in text
    assert "Any loader draws what the figures below were measured on." in text
    checks = read_json(tmp_path / "out" / "verification.json")
    assert all(check["ok"] and check["approximation"] == 0 for check in checks)
    again = export(tmp_path / "out", tmp_path / "again", model=str(calibrated), strength=0.75,
                   pipeline=tiny.pipeline())  # fmt: skip
    one = adapter_file.read(calibrated / "adapter").weights
    other = adapter_file.read(again.folder).weights
    assert all(torch.allclose(other[key], one[key], rtol=1e-5) for key in one)
    told = json.loads(header(again.folder / adapter_file.FILE)["invdiff"])
    assert (told["recommended_strength"], told["weight_scale"]) == (0.75, 0.75)


def test_a_run_that_sampled_at_another_strength_delivers_that_one(calibrated, tmp_path):
    """What its report shows, whatever calibration said."""
    settings = (calibrated / "config.toml").read_text()
    assert settings.count('strength = "auto"') == 1
    settings = settings.replace('strength = "auto"', "strength = 0.5")
    Seals(calibrated).write_settings(settings.rpartition("# ")[0])
    export(calibrated, tmp_path / "out")
    told = json.loads(header(tmp_path / "out" / kohya.FILE)["invdiff"])
    assert (told["recommended_strength"], told["weight_scale"]) == (0.5, 0.5)
    export(calibrated, tmp_path / "other", strength=2.0)
    text = (tmp_path / "other" / "README.md").read_text()
    assert "**Adapter strength 2 is in the files" in text
    assert "The figures below were measured at adapter strength 0.5." in text


def test_strength_zero_is_nothing_to_export(calibrated, tmp_path):
    with pytest.raises(RunError, match="adapter strength 0 is the base model"):
        export(calibrated, tmp_path / "out", strength=0.0)
    calibration_says(calibrated, 0.0)
    with pytest.raises(RunError, match="give --strength"):
        export(calibrated, tmp_path / "out")
    assert names(tmp_path) == {"run"}


def test_the_window_of_the_run_is_kept_where_nothing_is_said(calibrated):
    adapter_file.write_settings(calibrated / "adapter", window=[0.5, 1.0])
    pipe = tiny.pipeline()
    invdiff.attach(pipe, calibrated / "adapter")
    assert guidance_of(pipe.unet).window == (0.5, 1.0)


def test_a_hub_id_is_named_in_the_card(run, tmp_path, model):
    done = export(run, tmp_path / "out", model="runwayml/sd", pipeline=tiny.pipeline())
    text = (done.folder / "README.md").read_text()
    assert "base_model: runwayml/sd\n" in text
    assert 'from_pretrained("runwayml/sd")' in text
    assert json.loads(header(done.folder / kohya.FILE)["invdiff"])["base_model"] == "runwayml/sd"


def test_a_bare_adapter_needs_the_name_of_its_base(bare, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(bare), "--out", str(out)]) == 1
    assert "name it with --model" in capsys.readouterr().err
    assert main(["export", str(bare), "--out", str(out), "--model", str(model), "--verify"]) == 0
    assert names(out) == LORAS | {"README.md", "verification.json", PEFT}
    assert "exported without its run folder" in (out / "README.md").read_text()


def test_a_pipeline_that_was_passed_is_left_as_it_was(bare, tmp_path):
    pipe = tiny.pipeline()
    before = {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    export(bare, tmp_path / "out", ["merged", "kohya"], pipeline=pipe, verify=True)
    after = pipe.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_file_that_does_not_pass_is_not_exported(bare, tmp_path, monkeypatch):
    """Without the check the folder would be there, and its strength half of what it says."""
    right = kohya.convert

    def halved(*asked):
        return {k: v / 2 if k.endswith(".alpha") else v for k, v in right(*asked).items()}

    monkeypatch.setattr(kohya, "convert", halved)
    with pytest.raises(RunError, match=r"invdiff_kohya.safetensors: WRONG.*nothing was exported"):
        export(bare, tmp_path / "out", pipeline=tiny.pipeline(), verify=True)
    assert names(tmp_path) == {"adapter"}


def test_what_cannot_be_exported_is_refused(run, bare, tmp_path):
    out, pipe = tmp_path / "out", tiny.pipeline()
    with pytest.raises(ConfigError, match="there are: diffusers, kohya, peft, merged"):
        export(bare, out, ["gguf"], pipeline=pipe)
    with pytest.raises(RunError, match="neither a run folder nor a folder with"):
        export(tmp_path, out, pipeline=pipe)
    entry = ["diffusers", "SD3Transformer2DModel"]
    index = {"_class_name": "StableDiffusion3Pipeline", "transformer": entry}
    write_json(tmp_path / "sd3" / "model_index.json", index)
    with pytest.raises(ModelError, match="--format diffusers"):
        export(bare, out, ["kohya"], model=str(tmp_path / "sd3"))
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="is not empty"):
        export(bare, out, pipeline=tiny.pipeline())
    assert names(out) == {"mine.txt"}


def test_a_run_that_found_nothing_has_nothing_to_export(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    record = read_json(tmp_path / "run" / "training.json")
    write_json(tmp_path / "run" / "training.json", record | {"skipped": True})
    with pytest.raises(RunError, match="found nothing to balance"):
        export(tmp_path / "run", tmp_path / "out")


def test_a_run_that_was_not_trained_is_told_what_to_do(tmp_path):
    run = RunFolder.open(tmp_path / "run")
    with pytest.raises(RunError, match="run `invdiff discover"):
        export(run.path, tmp_path / "out")


def test_a_dry_run_of_the_upload_lists_the_files_and_sends_none(run, tmp_path, capsys, monkeypatch):
    import huggingface_hub

    def no_client():
        raise AssertionError("a dry run must not open a client")

    monkeypatch.setattr(huggingface_hub, "HfApi", no_client)
    out = tmp_path / "out"
    words = ["export", str(run), "--out", str(out), "--push", "me/balanced", "--dry-run"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "would upload to the public model repository me/balanced:" in text
    for path in out.iterdir():
        assert f"{path.stat().st_size:,} bytes  {path.name}" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dry-run"], "belong to --push"),
        (["--private"], "belong to --push"),
        (["--push", "nobody"], "give OWNER/NAME"),
        (["--strength", "-1"], "at least 0, but is '-1'"),
        (["--format", "gguf"], "invalid choice: 'gguf'"),
        (["--train.steps", "3"], "export takes no settings"),
    ],
)
def test_mistakes_on_the_line(run, tmp_path, capsys, words, told):
    assert main(["export", str(run), "--out", str(tmp_path / "out"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
