"""`invdiff export`: a whole folder or none, files that other tools read, a card that tells all."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open

import invdiff
from invdiff.app.cli import main
from invdiff.app.export import export
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import ConfigError, ModelError, RunError
from invdiff.model.formats import kohya
from invdiff.model.lora import adapter, adapter_file
from tests.app.report_fixture import write_run
from tests.model import tiny
from tests.model.formats.test_kohya import draw, trained

LORAS = {adapter_file.FILE, kohya.FILE}


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
    (run.path / "config.toml").write_text(text.replace('path = "faces"', f'path = "{model}"', 1))
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
    words = ["--format", "diffusers", "--format", "kohya", "--format", "merged", "--verify"]
    assert main(["export", str(run), "--out", str(out), *words]) == 0
    told = capsys.readouterr().out.splitlines()
    assert names(out) == LORAS | {"merged", "README.md", "report.html", "verification.json"}
    assert [line.split(":")[0] for line in told] == [
        adapter_file.FILE,
        kohya.FILE,
        "merged/",
        str(out),
    ]
    assert all(": ok, 77 of 77 layers matched" in line for line in told[:3])
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
        "**Recommended adapter strength 0.75**, at noise levels 0 to 1",
        "calibrated at guidance scale 2.5",
        f'pipe.load_lora_weights("path/to/this/folder", weight_name="{adapter_file.FILE}")',
        "ComfyUI",
        f"<lora:{kohya.FILE.split('.')[0]}:0.75>",
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


def test_a_merged_pipeline_on_the_hub_is_downloaded_first(bare, tmp_path):
    for repo, load in {
        "me/balanced": "`hf download me/balanced --local-dir balanced`, then "
        '`DiffusionPipeline.from_pretrained("balanced/merged")`',
        None: '`DiffusionPipeline.from_pretrained("path/to/this/folder/merged")`',
    }.items():
        out = tmp_path / (repo or "local")
        export(bare, out, ["merged"], pipeline=tiny.pipeline(), repo=repo)
        assert load in (out / "README.md").read_text()


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
    assert names(out) == LORAS | {"README.md", "verification.json"}
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

    def halved(lora, denoiser):
        return {k: v / 2 if k.endswith(".alpha") else v for k, v in right(lora, denoiser).items()}

    monkeypatch.setattr(kohya, "convert", halved)
    with pytest.raises(RunError, match=r"invdiff_kohya.safetensors: WRONG.*nothing was exported"):
        export(bare, tmp_path / "out", pipeline=tiny.pipeline(), verify=True)
    assert names(tmp_path) == {"adapter"}


def test_what_cannot_be_exported_is_refused(run, bare, tmp_path):
    out, pipe = tmp_path / "out", tiny.pipeline()
    with pytest.raises(ConfigError, match="there are: diffusers, kohya, merged"):
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
