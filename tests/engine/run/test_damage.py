"""A damaged file of a finished run is told by whoever reads it; `stress.py` has the whole sweep."""

import re

import pytest

import invdiff
from invdiff.app.cli import main
from invdiff.app.export import export
from invdiff.engine.run.results import Results
from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import RunError
from tests import damage
from tests.tiny_world import copy_of, finished, world

__all__ = ["finished", "world"]


def test_nobody_is_silent_and_nobody_falls_over(finished, tmp_path):
    readers = {name: damage.READERS[name] for name in ("run", "Run objects")}
    run = damage.with_an_attribute(copy_of(finished, tmp_path / "whole"))
    sweep = damage.Sweep(run, tmp_path, readers, flips=1)
    kinds = {re.sub(r"^(samples|cache|checkpoints)/.*", r"\1", name): name for name in sweep.files}
    for file in kinds.values():
        sweep.go(file)
    assert sweep.wrong == []
    assert sweep.counts["told"] >= 4 * 17


@pytest.mark.parametrize(
    ("file", "stage"),
    [("adapter/pytorch_lora_weights.safetensors", "train"), ("scores.parquet", "discover"),
     ("stages/train.json", "train")],
)  # fmt: skip
def test_the_line_names_the_file_and_the_way_to_repair_it(finished, tmp_path, capsys, file, stage):
    run = copy_of(finished, tmp_path / "run")
    content = bytearray((run / file).read_bytes())
    content[len(content) // 2] ^= 1
    (run / file).write_bytes(content)
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert file in told
    place = f"--out {run}" if stage == "discover" else run
    assert f"`invdiff {stage} {place} --redo`" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["metrics.json", "report.html", "samples.parquet"])
@pytest.mark.parametrize("change", ["one bit", "removed"])
def test_what_a_card_would_show_or_stand_beside_is_looked_at(finished, tmp_path, file, change):
    run = copy_of(finished, tmp_path / "run")
    content = bytearray((run / file).read_bytes())
    (run / file).unlink()
    if change == "one bit":
        content[len(content) // 2] ^= 1
        (run / file).write_bytes(content)
    with pytest.raises(RunError, match=rf"damaged or missing in .*{re.escape(file)} \(of "):
        export(run, tmp_path / "out", ["peft"])
    assert not (tmp_path / "out").exists()


def test_what_is_named_as_the_repair_repairs(finished, tmp_path):
    run = copy_of(finished, tmp_path / "run")
    (run / "report.html").write_text("")
    assert main(["run", "--out", str(run)]) == 1
    assert main(["report", "--out", str(run), "--redo"]) == 0
    assert main(["run", "--out", str(run)]) == 0


@pytest.mark.parametrize("damaged", ["", "[train]\nsteps = 5\n"])
def test_emptied_and_edited_settings_are_not_taken_for_others(finished, tmp_path, damaged):
    run = copy_of(finished, tmp_path / "run")
    (run / "config.toml").write_text(damaged)
    with pytest.raises(RunError, match=r"config\.toml is not what was written .* another --out"):
        invdiff.Run(run)


def test_what_nothing_is_made_from_may_be_thrown_away(finished, tmp_path):
    run = copy_of(finished, tmp_path / "run")
    (run / "training-log.jsonl").unlink()
    assert invdiff.Run(run).groups.prompts
    (run / "training-log.jsonl").write_text("{}")
    with pytest.raises(RunError, match="delete them, nothing is made from them"):
        invdiff.Run(run).folder.require("train", by="export")


def test_a_run_without_hashes_is_read_with_a_line(finished, tmp_path, caplog):
    run = copy_of(finished, tmp_path / "run")
    for path in [*run.glob("stages/*.json"), run / "environment.json"]:
        record = read_json(path)
        write_json(
            path, {k: v for k, v in record.items() if k not in ("files", "sha256_of_record")}
        )
    (run / "config.toml").write_text((run / "config.toml").read_text().rpartition("# ")[0])
    settings = invdiff.Run(run).config.model_dump()
    settings["train"]["preview_steps"] = 3
    opened = invdiff.Run(run, settings)
    assert opened.groups.prompts
    told = [line for line in caplog.messages if "before files had hashes" in line]
    assert len(told) == 1
    assert "sha256" not in (run / "config.toml").read_text(), "it stays a run of its version"
    assert main(["report", "--redo", "--out", str(run)]) == 0
    assert main(["run", "--out", str(run)]) == 0, "and can be gone on with"


@pytest.mark.parametrize(
    ("file", "stage", "result"),
    [("discovery.json", "discover", "discovery"), ("attributes.json", "discover", "attributes"),
     ("groups.parquet", "discover", "groups"), ("samples.parquet", "sample", "samples")],
)  # fmt: skip
def test_results_are_checked_by_whoever_reads_them(finished, tmp_path, file, stage, result):
    run = copy_of(finished, tmp_path / "run")
    content = (run / file).read_bytes()
    (run / file).write_bytes(content.replace(b"loss", b"lass") + b"\n")
    with pytest.raises(RunError, match=rf"{file} \(of {stage}\)"):
        getattr(Results(run), result)


def test_files_have_the_mode_that_the_user_gives_to_new_ones(finished, tmp_path):
    """safetensors writes for the owner alone, whatever the umask."""
    tensors = "adapter/pytorch_lora_weights.safetensors", "group_model.safetensors"
    probe = tmp_path / "probe"
    probe.touch()
    for name in (*tensors, "groups.parquet", "discovery.json", "config.toml"):
        assert (finished / name).stat().st_mode == probe.stat().st_mode, name
    others = [*finished.rglob("*.safetensors")]
    assert {path.stat().st_mode for path in others} == {probe.stat().st_mode}
    out = tmp_path / "out"
    formats = ("diffusers", "kohya", "merged")
    words = ["--strength", "1", *(word for form in formats for word in ("--format", form))]
    assert main(["export", str(finished), "--out", str(out), *words]) == 0
    modes = {path.stat().st_mode for path in out.rglob("*") if path.is_file()}
    assert modes == {probe.stat().st_mode}
