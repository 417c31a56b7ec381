"""The command line: what it starts, and how it ends."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest

from invdiff.app import api
from invdiff.app.cli import main
from invdiff.app.cli.parser import parse
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.errors import ConfigError, InvDiffError, ModelError
from tests import tiny_world

QUICK = configuration.preset("faces-quick")

# The dispatch is tested with stages that take no time; the folder and the rest are the real thing.
STAGES_SOURCE = """
    import json, os, time
    from invdiff.errors import ModelError
    from invdiff.terminal import Bar

    def discover(run):
        with (run.path / "calls.txt").open("a") as handle:
            handle.write("discover\\n")
        if os.environ.get("STUB_SLEEP"):
            print("asleep", flush=True)
            time.sleep(60)
        if number := int(os.environ.get("STUB_ERRNO", 0)):
            raise OSError(number, os.strerror(number), "cache/latents.safetensors")
        if os.environ.get("STUB_RAISE"):
            json.loads("{")
        if os.environ.get("STUB_NAME"):
            os.environ["STUB_NAME"].encode()
        if run.config.model.path == "nowhere":
            raise ModelError("nowhere is no model:\\n  give a folder")
        return {}

    def later(run):
        return {}

    def evaluate(run):
        list(Bar(range(2), "measuring"))
        (run.path / "metrics.json").write_text(json.dumps(METRICS))
        return {}

    METRICS = {"arms": {}}
"""


@pytest.fixture
def quick_stages(tmp_path, monkeypatch):
    """Stages that only leave a trace; returns the text of a module that installs them."""
    source = textwrap.dedent(STAGES_SOURCE)
    (tmp_path / "quick_stages.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    table = {"discover": "discover", "evaluate": "evaluate"}
    for stage in STAGES:
        entry = ("quick_stages", table.get(stage, "later"))
        monkeypatch.setitem(api.STAGE_HOMES, stage, entry)
    yield tmp_path / "run"
    sys.modules.pop("quick_stages", None)


def calls(out):
    return (out / "calls.txt").read_text().split()


def lines_of(capsys):
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


def test_config_prints_what_it_reads(tmp_path, capsys):
    assert main(["config", "--preset", "faces-quick", "--train.steps", "7"]) == 0
    (tmp_path / "a.toml").write_text(capsys.readouterr().out)
    read = configuration.load(tmp_path / "a.toml")
    assert read == configuration.preset("faces-quick", ["train.steps=7"])
    assert main(["config", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Config"


def test_dry_run_starts_nothing(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["demo", "--quick", "--dry-run", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert all(stage in text for stage in STAGES)
    assert "denoiser passes" in text
    assert not out.exists()


def test_dry_run_tells_memory_and_work(tmp_path, capsys):
    words = ["run", "--preset", "sd15", "--out", str(tmp_path / "run"), "--dry-run"]
    words += ["--data.path", "faces"]
    assert main([*words, "--data.image_size", "64"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"memory: discover [\d.]+ GB, train [\d.]+ GB, sample [\d.]+ GB \(est", text)
    assert "1,370 million parameters and 15.9 million of the adapter" in text
    passes = int(re.search(r"to do: ([\d,]+) denoiser passes", text)[1].replace(",", ""))
    work, one = (float(n) for n in re.search(r"work: (\S+) PFLOP, (\S+) TFLOP", text).groups())
    assert work == pytest.approx(passes * one / 1000, rel=0.01)
    assert "data: faces, 8,000 pictures of 4 prompts" in text
    assert main([*words, "--model.path", "me/unheard-of"]) == 0
    assert "memory: not known, me/unheard-of is not on this" in capsys.readouterr().out


def test_dry_run_opens_the_data(tmp_path, capsys):
    words = ["run", "--preset", "sd15", "--out", str(tmp_path / "run"), "--dry-run", "--data.path"]
    assert main([*words, str(tmp_path / "nowhere")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert f"{tmp_path / 'nowhere'} does not exist" in said.err


def test_dry_run_knows_what_is_done(quick_stages, capsys):
    words = ["run", "--preset", "faces", "--out", str(quick_stages)]
    assert main(["discover", *words[1:]]) == 0
    capsys.readouterr()
    assert main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("done before") == 1


def test_a_run_goes_through_once(quick_stages, capsys):
    words = ["demo", "--quick", "--out", str(quick_stages)]
    assert main(words) == 0
    first, _ = lines_of(capsys)
    assert first[0].startswith("smoke run")
    assert first[-3] == "no attribute classifier: no shares"
    assert first[-2] == f"report: {quick_stages / 'report.html'}"
    assert configuration.load(quick_stages / "config.toml") == configuration.preset("faces-quick")
    assert main(words) == 0
    assert calls(quick_stages) == ["discover"]
    assert sum("(done before)" in line for line in lines_of(capsys)[0]) == 5
    assert main([*words, "--redo"]) == 0
    assert calls(quick_stages) == ["discover"] * 2
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["run"], told["metrics"]) == (str(quick_stages), {"arms": {}})


def test_redo_does_only_what_changed_settings_touch(quick_stages, capsys):
    words = ["demo", "--quick", "--out", str(quick_stages)]
    main(words)
    capsys.readouterr()
    assert main([*words, "--sample.images_per_prompt", "7"]) == 1
    before = QUICK.sample.images_per_prompt
    assert f"sample.images_per_prompt ({before} -> 7)" in lines_of(capsys)[1][0]
    assert main([*words, "--sample.images_per_prompt", "7", "--redo"]) == 0
    assert calls(quick_stages) == ["discover"]
    assert sum("(done before)" in line for line in lines_of(capsys)[0]) == 2


def test_single_stages_use_the_settings_of_the_run(quick_stages, capsys):
    out = ["--out", str(quick_stages)]
    assert main(["train", *out]) == 1
    assert "not a run folder: begin with `invdiff discover" in lines_of(capsys)[1][-1]
    assert main(["discover", *out, "--preset", "faces-quick"]) == 0
    assert main(["sample", *out]) == 1
    assert f"sample needs train: run `invdiff train {quick_stages}`" in lines_of(capsys)[1][-1]
    assert main(["train", *out, "--train.rank=4"]) == 0
    saved = configuration.load(quick_stages / "config.toml")
    assert (saved.train.rank, saved.train.steps) == (4, QUICK.train.steps)
    capsys.readouterr()
    assert main(["train", *out]) == 0
    assert "nothing to do" in lines_of(capsys)[0][0]
    assert main(["discover", *out, "--redo"]) == 0
    assert not (quick_stages / "stages/train.json").exists()


def test_a_failure_is_one_line(quick_stages, capsys, monkeypatch):
    words = ["run", "--preset", "faces", "--model.path=nowhere", "--out", str(quick_stages)]
    assert main(words) == 1
    assert lines_of(capsys)[1] == ["invdiff: error: nowhere is no model: give a folder"]
    monkeypatch.setenv("INVDIFF_DEBUG", "1")
    with pytest.raises(ModelError):
        main(words)


def test_a_full_disk_is_said_plainly(quick_stages, capsys, monkeypatch):
    monkeypatch.setenv("STUB_ERRNO", str(errno.ENOSPC))
    assert main(["demo", "--out", str(quick_stages)]) == 1
    (told,) = lines_of(capsys)[1]
    assert "the disk is full (writing cache/latents.safetensors)" in told


def test_a_forbidden_place_is_said_plainly(quick_stages, capsys, monkeypatch):
    monkeypatch.setenv("STUB_ERRNO", str(errno.EACCES))
    assert main(["demo", "--out", str(quick_stages)]) == 1
    (told,) = lines_of(capsys)[1]
    assert "cache/latents.safetensors: Permission denied" in told
    assert main(["demo", "--out", str(quick_stages / "config.toml" / "run")]) == 1
    (told,) = lines_of(capsys)[1]
    assert "cannot be made (Not a directory): give --out another place" in told


def test_verbs_that_read_a_run_take_it_first(quick_stages, capsys):
    run = str(quick_stages)
    assert main(["discover", "--out", run, "--preset", "faces-quick"]) == 0
    assert main(["train", run]) == 0
    assert lines_of(capsys)[0][-2] == "nothing was trained: no adapter strength"
    assert main(["sample", "--out", run]) == 0
    assert lines_of(capsys)[1] == [f"--out names the run here, as `invdiff sample {run}` does"]
    assert main(["evaluate", run, "-q"]) == 0
    assert lines_of(capsys) == ([f"{run}/metrics.json"], [])
    assert main(["report", run, "-v"]) == 0
    assert re.search("report took [0-9]+ seconds", "\n".join(lines_of(capsys)[0]))
    for words, told in (
        (["report"], "report needs a run folder, as in `invdiff report runs/mine`"),
        (["report", run, "--out", run], "name the run once"),
        (["evaluate", run, "other"], "--out DIR is needed"),
    ):
        assert main(words) == 2
        assert told in lines_of(capsys)[1][0]


def test_a_mistake_leaves_no_new_folder_behind(tmp_path, capsys):
    words = ["--preset", "faces", "--data.path", str(tmp_path / "nowhere"), "--processes", "1"]
    words += ["--evaluate.classifier", "none"]
    for verb in ("run", "discover"):
        assert main([verb, *words, "--out", str(tmp_path / "out")]) == 1
        assert "nowhere does not exist" in lines_of(capsys)[1][0]
        assert os.listdir(tmp_path) == []


def test_what_a_library_raises_is_one_line(quick_stages, capsys, monkeypatch):
    monkeypatch.setenv("STUB_RAISE", "1")
    assert main(["demo", "--out", str(quick_stages)]) == 1
    (told,) = lines_of(capsys)[1]
    assert re.search("error: json says JSONDecodeError: .*; with INVDIFF_DEBUG=1", told)


def test_a_name_that_is_no_text_is_one_line(quick_stages, capsys, monkeypatch):
    monkeypatch.setenv("STUB_NAME", "caf\udce9.png")
    assert main(["demo", "--out", str(quick_stages)]) == 1
    (told,) = lines_of(capsys)[1]
    assert "holds what is not UTF-8: rename the file" in told
    assert "udce9.png" in told


def test_a_shell_gets_its_completion(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--completion", "bash"])
    assert ended.value.code in (0, None)
    script = capsys.readouterr().out
    assert "'discover' 'train' 'sample' 'evaluate' 'report'" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


@pytest.mark.parametrize(("number", "times"), [(signal.SIGTERM, 1), (signal.SIGINT, 3)])
def test_signals_end_a_run_in_order(number, times, quick_stages):
    table = {stage: list(api.STAGE_HOMES[stage]) for stage in STAGES}
    code = (
        f"import sys; sys.path.insert(0, {str(quick_stages.parent)!r})\n"
        f"from invdiff.app import api, cli\napi.STAGE_HOMES.update({table!r})\n"
        f"sys.argv = ['invdiff', 'demo', '--out', {str(quick_stages)!r}]\nsys.exit(cli.main())"
    )
    environment = os.environ | {"STUB_SLEEP": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=tiny_world.interruptible,
    )
    while "asleep" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    begun = process.stderr.readline()
    for _ in range(times - 1):  # whoever presses Ctrl-C again while it ends
        process.send_signal(number)
    _, rest = process.communicate(timeout=120)
    error = begun + rest
    assert process.returncode == 75
    words = "interrupted; run the same command again to go on where it stopped"
    assert error == f"invdiff: error: {words}\n"
    events = (quick_stages / "events.jsonl").read_text().splitlines()
    assert json.loads(events[-1])["event"] == "interrupted"


def test_a_reader_that_leaves_is_no_failure():
    command = f"set -o pipefail; {sys.executable} -m invdiff config --schema | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_facade_does_what_the_command_does(quick_stages):
    run = api.Run(quick_stages, {"train": {"steps": 3}}, data="faces")
    assert run.config.train.steps == 3
    assert run.discover() == quick_stages / "groups.parquet"
    assert run.run_all() == quick_stages / "report.html"
    assert all(run.done(stage) for stage in STAGES)
    assert "report" in repr(api.Run(quick_stages))
    run.redo("sample")
    assert not run.done("evaluate")
    assert calls(quick_stages) == ["discover"]


def test_the_facade_refuses_what_is_no_pipeline(tmp_path):
    with pytest.raises(ModelError, match="neither a unet nor a transformer"):
        api.Run(tmp_path / "run", pipeline=object())
    with pytest.raises(InvDiffError, match="config must be"):
        api.Run(tmp_path / "run", config=3)
    assert not (tmp_path / "run").exists()


def test_data_is_shorthand_for_its_path(tmp_path):
    run = api.Run(tmp_path / "run", data=tmp_path / "pictures")
    assert run.config.data.path == str(tmp_path / "pictures")


def test_unknown_verbs_raise_usage_errors():
    with pytest.raises(ConfigError, match="see `invdiff --help`"):
        parse(["nothing"])
