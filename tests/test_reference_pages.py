"""The generated pages of the reference are those that the code makes today."""

import pytest

from invdiff.engine.settings import config as configuration
from invdiff.engine.settings import schema
from tools import reference_pages


@pytest.mark.parametrize("name", sorted(reference_pages.PAGES))
def test_the_committed_page_is_current(name):
    page = (reference_pages.REFERENCE / name).read_text(encoding="utf-8")
    assert page == reference_pages.PAGES[name](), "python tools/reference_pages.py writes it"


def test_the_page_has_every_setting_that_config_prints():
    page = reference_pages.settings_page()
    printed = configuration.dump(schema.Config())
    names = [line.split(" = ")[0] for line in printed.splitlines() if " = " in line]
    assert [
        line.split("`")[1].split(".")[-1] for line in page.splitlines() if line[:3] == "| `"
    ] == (names)


def test_values_are_told_with_their_ranges():
    page = reference_pages.settings_page()
    assert "| `seed` | whole number, from 0 to 4,294,967,295 | `0` |" in page
    assert "| `calibrate.tolerance` | number, above 0 to 1 |" in page


def test_every_help_text_is_on_the_page():
    page = reference_pages.cli_page()
    for path in reference_pages.HELP.glob("*.txt"):
        assert path.read_text(encoding="utf-8").rstrip() in page, path.name
