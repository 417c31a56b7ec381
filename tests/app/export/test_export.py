"""`invdiff export`: a whole folder or none, files that other tools read, a card that tells all."""

import json
import os
import re
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from diffusers import DiffusionPipeline
from peft import PeftModel

import invdiff
from invdiff.app.cli import main
from invdiff.app.export import export
from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import InvDiffError, RunError
from invdiff.model.formats import kohya
from invdiff.model.lora import adapter, adapter_file
from tests.app.export.exported import LORAS, PEFT, header, names
from tests.model import tiny
from tests.model.formats.test_kohya import draw


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


def test_a_hub_id_is_named_in_the_card(run, tmp_path, model):
    done = export(run, tmp_path / "out", model="runwayml/sd", pipeline=tiny.pipeline())
    text = (done.folder / "README.md").read_text()
    assert "base_model: runwayml/sd\n" in text
    assert 'from_pretrained("runwayml/sd")' in text
    assert json.loads(header(done.folder / kohya.FILE)["invdiff"])["base_model"] == "runwayml/sd"
