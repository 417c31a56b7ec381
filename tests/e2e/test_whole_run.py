"""From pictures and a pipeline to the report, the way people start it."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from invdiff import Run
from invdiff.app.cli import main
from invdiff.engine.base_model import loading
from invdiff.engine.run.stages import STAGES
from invdiff.engine.storage.files import read_json
from invdiff.model.lora import adapter
from tests import tiny_world
from tests.e2e.test_refused_runs import told
from tests.model import tiny
from tests.tiny_world import COAT, HAT, contents, stamps

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "files.md"


def promised():
    """The names in the listing of docs/reference/files.md."""
    listing = DOCS.read_text(encoding="utf-8").split("runs/mine/\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in listing.splitlines()]


class Text(HTMLParser):
    """The words of a page, and whether every element was closed."""

    def __init__(self, page):
        super().__init__()
        self.words, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br", "link", "hr", "input", "col"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_every_file_of_the_documents_is_there(finished):
    names = promised()
    assert len(names) > 12
    for name in names:
        if name == "quarantine.json":
            assert not (finished / name).exists()  # nothing was left out
        elif name in ("previews/", "strength-curve/"):
            assert not (finished / name).exists()  # nobody asked for any
        elif name == "stages/<stage>.json":
            assert sorted(p.stem for p in (finished / "stages").iterdir()) == sorted(STAGES)
        elif name.endswith("/"):
            assert any((finished / name).rglob("*")), name
        else:
            assert (finished / name).stat().st_size > 0, name
    listed = {name.partition("/")[0] for name in names} | {".lock"}
    assert {path.name for path in finished.iterdir()} <= listed
    assert not [name for name in contents(finished) if "/." in name], "nothing half-written"


def test_the_report_opens_and_names_the_prompts(finished):
    page = Text((finished / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    text = " ".join(page.words)
    assert HAT in text
    assert COAT in text


def test_the_command_does_all_stages_and_then_nothing(command, tmp_path, finished, capfd):
    assert main(command) == 0
    run = tmp_path / "run"
    same = ("groups.parquet", "scores.parquet", "discovery.json", "samples.parquet")
    for name in same:
        assert (run / name).read_bytes() == (finished / name).read_bytes(), name
    assert contents(run / "samples") == contents(finished / "samples")
    assert told(capfd) == [], "the libraries keep to themselves"

    before = stamps(run)
    assert main(command) == 0
    assert stamps(run) == before
    said = capfd.readouterr()
    assert said.out.count("(done before)") == len(STAGES)
    assert said.err == ""


def test_a_dry_run_writes_nothing(command, tmp_path, capfd):
    before = stamps(tmp_path)
    assert main([*command, "--dry-run"]) == 0
    assert stamps(tmp_path) == before
    assert not (tmp_path / "run").exists()
    assert "discover" in capfd.readouterr().out


def test_a_pipeline_object_gives_what_its_folder_gives(world, finished, tmp_path):
    pipe = loading.load_pipeline(loading.ModelRef(str(world.model), "cpu", "float32"))
    config = world.config("model.path='an object'")
    run = Run(tmp_path / "run", config, pipeline=pipe, data=world.data)
    report = run.run_all()
    assert report == run.path / "report.html"
    assert HAT in report.read_text(encoding="utf-8")
    for name in ("groups.parquet", "scores.parquet", "discovery.json"):
        assert (run.path / name).read_bytes() == (finished / name).read_bytes(), name
    assert contents(run.path / "samples") == contents(finished / "samples")
    assert not adapter.has_adapter(pipe.unet)
    stock = tiny.pipeline()
    stock_state, state = stock.unet.state_dict(), pipe.unet.state_dict()
    assert stock_state.keys() == state.keys()
    assert all(stock_state[name].equal(state[name]) for name in state)


def test_nothing_to_balance(world, tmp_path):
    """Colours that are even and that no prompt says anything about."""
    data = tiny_world.pictures(tmp_path / "data", share=0.5)
    run = Run(tmp_path / "run", tiny_world.settings(world.model, data, "study.estimator='auto'"))
    report = run.run_all()
    prompts = read_json(run.path / "discovery.json")["prompts"]
    assert {name: entry["found"] for name, entry in prompts.items()} == {HAT: False, COAT: False}
    assert all(entry["note"].startswith("nothing to balance") for entry in prompts.values())
    assert set(tiny_world.table(run.path / "groups.parquet")["weight"]) == {1.0}
    assert read_json(run.path / "training.json")["skipped"] is True
    assert set(tiny_world.table(run.path / "samples.parquet")["arm"]) == {"base"}
    assert "nothing to balance" in " ".join(Text(report.read_text(encoding="utf-8")).words)


def test_a_run_in_half_precision(world, finished, tmp_path):
    """The presets of real models ask for it; losses are those of full precision, but rounded."""
    run = Run(tmp_path / "half", world.config("model.dtype='bfloat16'"))
    run.discover()
    run.train()
    half, full = (tiny_world.table(path / "scores.parquet") for path in (run.path, finished))
    np.testing.assert_allclose(half["loss"], full["loss"], rtol=0.05)
    assert (half["loss"] != full["loss"]).any()
    record = read_json(run.path / "training.json")
    assert record["steps"] > 0
    assert np.isfinite(record["curve"]["loss"]).all()
