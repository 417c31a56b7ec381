"""The report as a whole: one page, complete, closed to the outside, the same every time."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unicodedata import category

import pytest

from invdiff.app.report import builder, inputs
from invdiff.app.report.builder import build
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.settings import config as configuration
from invdiff.engine.storage.files import read_json, write_json
from invdiff.engine.workflow import session_of
from invdiff.errors import RunError
from tests.app.html_page import SVG, Page
from tests.app.report_fixture import HAT, HEADBAND, write_run


def report_of(run: RunFolder) -> str:
    build(session_of(run))
    return (run.path / "report.html").read_text(encoding="utf-8")


def page_of(run: RunFolder) -> Page:
    return Page(report_of(run))


def change(path: Path, edit: Callable[[Any], None]) -> None:
    value = read_json(path)
    edit(value)
    write_json(path, value)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_run(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(run: RunFolder) -> str:
    return report_of(run)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def anchors(page: Page) -> list[str | None]:
    return [section.get("id") for section in page.all("section")]


def test_a_full_run_has_every_section_and_the_contents_lead_to_them(page: Page) -> None:
    expected = ["summary", "found", "changed", "certificate", "reproduce", "limits"]
    assert anchors(page) == expected
    links = [link["href"] for link in page.all("a")]
    assert links[1:] == [f"#{anchor}" for anchor in expected]
    assert page.open == []


def test_nothing_is_fetched_and_nothing_runs(html: str, page: Page) -> None:
    fetching = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "form", "base"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in fetching:
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/webp;base64,", SVG)), (tag, name, value[:80])
    assert not re.search(r"url\((?!#)|@import|https?://", html)
    policy = {meta.get("http-equiv"): meta.get("content") for meta in page.all("meta")}
    assert (policy["Content-Security-Policy"] or "").startswith("default-src 'none'")


def test_identifiers_are_unique_and_every_reference_has_its_target(html: str, page: Page) -> None:
    identifiers = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(identifiers) == len(set(identifiers))
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', html)
    assert set(references) <= set(identifiers)


def test_pictures_drawings_and_tables_can_be_read_aloud(page: Page) -> None:
    assert len(page.pictures) == 3 * 2 + 4 * 2 * 2  # found groups; prompts, scales, models
    assert len(page.drawings) == 3 + 1 + 1 + 2 + 2 + 1  # each says something else
    assert len(page.all("img")) == len(page.pictures) + len(page.drawings)
    assert all(image["alt"] and image["width"] and image["height"] for image in page.all("img"))
    assert all(header["scope"] in ("row", "col") for header in page.all("th"))
    assert all(table["aria-label"] for table in page.all("table"))


def test_the_same_run_gives_the_same_bytes(run: RunFolder, html: str) -> None:
    assert report_of(run) == html


def test_it_can_be_sent_by_mail(html: str) -> None:
    assert len(html.encode()) < 6_000_000


def test_words_promise_no_more_than_the_tool_does(page: Page) -> None:
    text = page.text.lower()
    assert "inferred group" in text
    assert "classifier-estimated gender" in text
    assert "under-represented" in text
    for promise in ("unbiased", "removed", "debiased", "fair "):
        assert promise not in text


def test_what_users_write_is_text_not_markup(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script> & $x$ {{ 7 * 7 }}'
    run = write_run(tmp_path, prompts=(evil, "b", "c", "d"))
    page = page_of(run)
    assert "script" not in {tag for tag, _ in page.elements}
    assert evil in page.text
    drawn = [svg for svg in page.drawings.values() if "&lt;script&gt;alert" in svg]
    assert len(drawn) == 3  # shares at two scales, risks
    assert all("<script" not in svg for svg in page.drawings.values())
    assert page.text.count(evil) > 6


def test_characters_that_cannot_be_seen_are_shown_as_escapes(tmp_path: Path) -> None:
    sly = "a \x1b[2Jnurse \u202eeman\x07"
    run = write_run(tmp_path, prompts=(sly, "b", "c", "d"))
    html = report_of(run)
    assert "a \\u001b[2Jnurse \\u202eeman\\u0007" in Page(html).text
    assert not [one for one in html if one != "\n" and category(one) in ("Cc", "Cf")]


@pytest.mark.parametrize(("steps", "shown"), [(0, False), (90, True), (100, False)])
def test_a_smoke_run_says_so(run: RunFolder, steps: int, shown: bool) -> None:
    config = configuration.load(None, [f"train.steps={steps}"])
    short = replace(inputs.read(run), config=config)
    assert ("This is a smoke run" in Page(builder.report_page(short)).text) is shown


def test_without_a_classifier_the_estimated_gap_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path)

    def forget(metrics: Any) -> None:
        metrics["classifier"] = None
        for scales in metrics["arms"].values():
            for arm in scales.values():
                arm |= {"shares": {}, "bias": None, "fidelity": None}

    change(run.path / "metrics.json", forget)
    page = page_of(run)
    assert "Estimated gap at guidance scale 2.5" in page.text
    assert "not an independent measurement" in page.text
    assert "No attribute classifier was used" in page.text
    gaps = page.tables["Estimated gap between the inferred groups at guidance scale 2.5"]
    assert gaps["Adapter strength 1 chosen"] == ["0.09 0.03 to 0.15", "256"]
    assert any(
        "estimated share of the under-represented group" in s for s in page.drawings.values()
    )
    assert not any("classifier" in title for title in page.tables)


def test_when_nothing_was_found_nothing_is_claimed(tmp_path: Path) -> None:
    run = write_run(tmp_path)

    def nothing(discovery: Any) -> None:
        for prompt in discovery["prompts"]:
            note = {"found": False, "images": 50, "scored": 50, "note": "nothing to balance"}
            discovery["prompts"][prompt] = note
        discovery |= {"score": None, "candidate": "", "ranking": [], "reliability": []}

    change(run.path / "discovery.json", nothing)
    write_json(run.path / "training.json", {"skipped": True})
    for name in ("adapter/calibration.json", "samples.parquet", "metrics.json", "groups.parquet"):
        (run.path / name).unlink()
    page = page_of(run)
    assert anchors(page) == ["summary", "found", "reproduce", "limits"]
    assert "Nothing to balance" in page.findings["Found"]
    assert "None was trained" in page.findings["Adapter"]
    assert page.all("img") == []


def test_the_base_model_alone_is_shown_without_a_comparison(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_json(run.path / "training.json", {"skipped": True})
    (run.path / "adapter/calibration.json").unlink()
    change(run.path / "metrics.json", lambda metrics: metrics["arms"].update(guided={}))
    for picture in run.path.glob("samples/*/*-guided-*.png"):
        picture.unlink()
    page = page_of(run)
    assert "certificate" not in anchors(page)
    quality = page.tables["Quality"]
    assert [name for name in quality if name] == ["Scale 1, base model", "Scale 2.5, base model"]
    assert "same position is the same seed" not in page.text


def test_reference_rows_only_where_they_were_measured(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    bias = {"value": 0.08, "low": 0.05, "high": 0.11}
    row = {"name": "label oracle", "scale": 1.0, "bias": bias, "fidelity": 0.98, "frechet": 6.1}
    write_json(run.path / "comparison.json", {"rows": [row, {"name": "no groups", "scale": 1.0}]})
    page = page_of(run)
    assert "comparison" in anchors(page)
    rows = page.tables["Other ways to the same goal"]
    assert rows["label oracle"] == ["1", "0.08 0.05 to 0.11", "0.980", "6.1"]
    assert rows["no groups"] == ["1", *["not defined"] * 3]


def test_labels_are_compared_only_where_the_data_has_them(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    measured = {"balanced_accuracy": {HAT: 0.97}, "auc": {HAT: 0.995}}
    change(run.path / "metrics.json", lambda metrics: metrics.update(groups_vs_labels=measured))
    tables = page_of(run).tables
    assert tables["Inferred groups against the labels of the data"][HAT] == ["0.97", "0.99"]


def test_data_that_moved_costs_the_pictures_only(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "train.npz").unlink()
    page = page_of(run)
    assert "The training pictures could not be opened" in page.text
    assert len(page.pictures) == 4 * 2 * 2


def test_no_place_on_the_disk_is_told_outside_the_settings(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    before, settings, after = page.text.partition("Save the settings below")
    assert settings
    assert str(tmp_path) not in before
    assert str(tmp_path) not in after.partition("Seed and versions")[2]


def test_a_split_that_is_even_is_said_to_be_left_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path)

    def even(discovery: Any) -> None:
        entry = discovery["prompts"][HEADBAND]
        entry["groups"] = [{"share": 0.5, "low": 0.48, "high": 0.52}] * 2
        entry |= {"monitored": True, "p_value": 1e-9}

    change(run.path / "discovery.json", even)
    page = page_of(run)
    row = page.tables["Inferred groups"][HEADBAND]
    assert row[2:4] == ["50% 48 to 52%"] * 2
    assert "left alone" in row[0]
    assert "(about 50 : 50)" in page.findings["Found"]
    assert "about 50 : 50, left alone (p < 0.001, 600 pictures scored)" in page.text
    assert "no groups stood out" not in page.text


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (run.path / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"metrics\.json is damaged"):
        build(session_of(run))


def test_the_settings_in_the_report_are_those_of_the_run(run: RunFolder, page: Page) -> None:
    text = (run.path / "config.toml").read_text(encoding="utf-8")
    settings = " ".join(text.rpartition("# ")[0].split())
    assert settings in page.text
    assert json.dumps(run.config.train.rank) in settings
