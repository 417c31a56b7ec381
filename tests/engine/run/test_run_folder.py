"""The run folder keeps its word about what is done and whose it is."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from invdiff.engine.run import stages
from invdiff.engine.run.folder import STAGES, RunFolder
from invdiff.engine.run.records import Attributes, Discovery, Metrics, Training
from invdiff.engine.run.stages import FILES, TOUCHES, touched
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings import schema
from invdiff.engine.storage import files
from invdiff.engine.training import log
from invdiff.errors import RunError


def configured(*overrides):
    return configuration.load({}, overrides)


def finish(run, *stages):
    for stage in stages:
        with run.stage(stage):
            for name in FILES[stage]:
                leave(run.path / name)


def leave(path):
    if path.suffix:
        path.write_text("{}")
    else:
        path.mkdir(exist_ok=True)
        (path / "part").write_text("x")


def break_off(run, error, seconds=0.0):
    def work():
        with run.stage("discover"):
            leave(run.path / "scores.parquet")
            assert not run.done("discover")
            time.sleep(seconds)
            raise error

    with pytest.raises(error):
        work()


def done(run):
    return [stage for stage in STAGES if run.done(stage)]


def lines(run):
    return (run.path / "events.jsonl").read_text().splitlines()


def events(run):
    return [json.loads(line) for line in lines(run)]


@pytest.fixture
def run(tmp_path):
    return RunFolder.open(tmp_path / "run", configured())


def test_a_new_folder_explains_itself(run):
    assert configuration.load(run.path / "config.toml") == run.config
    facts = files.read_json(run.path / "environment.json")
    assert facts["versions"]["torch"]
    assert facts["pipeline"] is None
    assert done(run) == []


def test_the_same_configuration_goes_on(run):
    finish(run, "discover")
    assert done(RunFolder.open(run.path, configured())) == ["discover"]
    assert done(RunFolder.open(run.path)) == ["discover"]


def test_a_stage_is_done_only_at_its_end(run):
    break_off(run, ZeroDivisionError)
    assert not run.done("discover")
    assert events(run)[-1]["event"] == "failed"
    with run.stage("discover") as facts:
        assert (run.path / "scores.parquet").exists()
        facts["images"] = 7
    record = files.read_json(run.path / "stages/discover.json")
    assert record["images"] == 7
    assert record["seconds"] >= events(run)[2]["seconds"]


def test_an_interrupted_stage_is_told_from_a_failed_one(run):
    break_off(run, KeyboardInterrupt)
    assert events(run)[-1]["event"] == "interrupted"


def test_stages_need_those_before(run):
    words = r"train needs discover: run `invdiff discover --out .*run`"
    with pytest.raises(RunError, match=words), run.stage("train"):
        pass
    finish(run, "discover", "train")
    run.require("train", by="export")


def test_a_later_stage_is_stale_when_an_earlier_one_is_redone(run):
    finish(run, *STAGES)
    assert done(run) == list(STAGES)
    finish(run, "train")
    assert done(run) == ["discover", "train"]
    assert not (run.path / "samples").exists()


def test_clearing_takes_the_files_along(run):
    finish(run, *STAGES)
    run.clear("sample")
    assert done(run) == ["discover", "train"]
    assert not any((run.path / name).exists() for name in FILES["sample"])
    assert all((run.path / name).exists() for name in FILES["train"])


@pytest.mark.parametrize(
    ("override", "stage"),
    [
        ("seed=1", "discover"),
        ("data.min_images=3", "discover"),
        ("discover.draws=4", "discover"),
        ("train.steps=5", "train"),
        ("calibrate.tolerance=0.3", "train"),
        ("sample.steps=5", "train"),
        ("sample.window=[0.5, 1.0]", "train"),
        ("study.arms=['guided']", "sample"),
        ("evaluate.abstain_below=0.2", "evaluate"),
    ],
)
def test_changed_settings_are_refused_or_redone(run, override, stage):
    finish(run, *STAGES)
    with pytest.raises(RunError) as caught:
        RunFolder.open(run.path, configured(override))
    told = str(caught.value)
    assert override.split("=")[0] in told
    assert f"has {stage} done with other settings" in told
    assert "--out" in told
    assert "--redo" in told
    assert done(run) == list(STAGES), "a refusal changes nothing"
    again = RunFolder.open(run.path, configured(override), redo=True)
    assert done(again) == list(STAGES[: STAGES.index(stage)])
    assert configuration.load(run.path / "config.toml") == again.config


def test_a_refusal_shows_old_and_new_values_of_what_matters_only(run):
    finish(run, "discover")
    with pytest.raises(RunError) as caught:
        RunFolder.open(run.path, configured("discover.draws=4", "train.steps=5", "processes=2"))
    assert "discover.draws (2 -> 4)" in str(caught.value)
    assert "train.steps" not in str(caught.value)
    assert "processes" not in str(caught.value)


def test_changes_that_touch_nothing_begun_are_accepted(run):
    finish(run, "discover")
    again = RunFolder.open(run.path, configured("train.steps=5", "processes=2"))
    assert done(again) == ["discover"]
    assert RunFolder.read(run.path).config.train.steps == 5


def test_work_in_progress_is_not_mixed_with_other_settings(run):
    finish(run, "discover")
    (run.path / "checkpoints").mkdir()
    RunFolder.open(run.path, configured("train.steps=5"))  # an empty folder is no work
    leave(run.path / "checkpoints/step.json")
    with pytest.raises(RunError, match=r"has train begun with other settings: train\.steps"):
        RunFolder.open(run.path, configured("train.steps=6"))
    RunFolder.open(run.path, configured("train.steps=6"), redo=True)
    assert not (run.path / "checkpoints").exists()
    assert run.done("discover")


def test_every_setting_has_a_stage_that_it_touches():
    keys = set(configuration.flatten(schema.Config()))
    for key in keys:
        assert touched(key) in (*STAGES, None)
    keys |= set(schema.Config.model_fields)
    assert set(TOUCHES) - {"pipeline"} <= keys


def test_every_file_that_a_stage_touches_belongs_to_a_stage():
    sources = Path(stages.__file__).parents[1]
    rooms = ("encoding", "discovery", "training", "sampling", "evaluation")
    code = "".join(p.read_text() for room in rooms for p in (sources / room).glob("*.py"))
    code += (sources / "run" / "results.py").read_text()
    names = set(re.findall(r'(?:session|self)\.path / "([^"/]+)"', code))
    rooms = "".join(path.read_text() for path in sorted((sources / "training").glob("*.py")))
    names |= set(re.findall(r'\brun / "([^"]+)"', rooms)) | {log.FILE, *log.TRACKERS}
    names |= {Attributes.FILE, Discovery.FILE, Training.FILE, Metrics.FILE}
    assert len(names) >= 10
    assert names == {name for files in FILES.values() for name in files} - {"report.html"}


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="not empty and is not a run folder"):
        RunFolder.open(tmp_path, configured())
    with pytest.raises(RunError, match="is a file"):
        RunFolder.open(tmp_path / "thesis.tex", configured())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_reading_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match="not a run folder: begin with `invdiff discover"):
        RunFolder.read(tmp_path)


def test_a_run_of_another_version(run):
    run.seals.write_settings("[train]\nepochs = 3\n")
    with pytest.raises(RunError, match=r"not one that this version .*train\.epochs"):
        RunFolder.open(run.path, configured())


def pipeline(width):
    return SimpleNamespace(unet=SimpleNamespace(config={"width": width}))


def test_a_pipeline_object_is_part_of_the_identity(tmp_path):
    path = tmp_path / "run"
    run = RunFolder.open(path, configured(), pipeline=pipeline(64))
    finish(run, "discover")
    assert done(RunFolder.open(path, configured(), pipeline=pipeline(64))) == ["discover"]
    with pytest.raises(RunError, match=r"other settings: pipeline \("):
        RunFolder.open(path, configured(), pipeline=pipeline(96))
    without = RunFolder.open(path, configured())
    with pytest.raises(RunError, match=r"pipeline object .* invdiff\.Run"), without.stage("train"):
        pass


def test_figures_that_need_pictures_need_the_pipeline(tmp_path):
    curve = configured("evaluate.strength_curve=[0.0, 1.0]")
    for name, config in [("curve", curve), ("plain", configured())]:
        made = RunFolder.open(tmp_path / name, config, pipeline=pipeline(64))
        finish(made, "discover", "train", "sample")
    with RunFolder.read(tmp_path / "plain").stage("evaluate"):
        pass
    without = RunFolder.read(tmp_path / "curve")
    with pytest.raises(RunError, match=r"pipeline object .* evaluate"), without.stage("evaluate"):
        pass


def test_one_process_at_a_time(run):
    code = (
        "import sys, time\nfrom invdiff.engine.run.folder import RunFolder\n"
        "with RunFolder.open(sys.argv[1]).stage('discover'):\n"
        "    print('in', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "in\n"
        words = rf"another invdiff process \(pid {other.pid}\) is working in"
        with pytest.raises(RunError, match=words):
            RunFolder.open(run.path, configured())
        with pytest.raises(RunError, match=words), run.stage("discover"):
            pass
        RunFolder.read(run.path)
    finally:
        other.kill()
        other.communicate()
    with run.stage("discover"):  # the lock went with its holder
        pass


def test_seconds_of_all_sessions_count(run):
    for _ in range(2):
        break_off(run, KeyboardInterrupt, seconds=0.05)
    (run.path / "events.jsonl").open("a").write('{"time": "20')  # a kill while writing
    finish(run, "discover")
    assert files.read_json(run.path / "stages/discover.json")["seconds"] >= 0.1
    unreadable = [line for line in lines(run) if not line.endswith("}")]
    assert len(unreadable) == 1


def test_the_base_model_of_a_run_has_a_name_or_none(tmp_path):
    named = RunFolder.open(tmp_path / "named", configuration.load({"model": {"path": "me/base"}}))
    assert named.base_model == "me/base"
    pipeline = SimpleNamespace(unet=SimpleNamespace(config={}), name_or_path="")
    assert RunFolder.open(tmp_path / "object", pipeline=pipeline).base_model is None
    assert RunFolder.read(tmp_path / "object").base_model is None
    pipeline.name_or_path = "me/other"
    assert RunFolder.open(tmp_path / "object", pipeline=pipeline).base_model == "me/other"
