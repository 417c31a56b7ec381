"""What the documents say exists: pages, links, settings; and the words they keep to."""

import re
from pathlib import Path

import pytest
import yaml

from invdiff.engine.settings import config as configuration
from invdiff.engine.settings import schema

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("**/*.md")])
ONE_PER_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))

FENCED = re.compile(r"^( *)```.*?^\1```$", re.M | re.S)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
MACHINE_PATH = re.compile(r"(?<![\w./])/(?:home|root|tmp|work|mnt|Users|data)/")
FILES = (".py", ".html", ".json", ".toml")
SETTING = re.compile(r"`(\w+\.\w+)(?: = [^`]+)?`")


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCED.sub("", page.read_text())


def anchor(heading: str) -> str:
    text = re.sub(r"\{[^}]*\}|[`*]", "", heading).strip()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).lower())


def anchors(page: Path) -> set[str]:
    return {anchor(heading) for heading in HEADING.findall(prose(page))}


def settings_named(page: Path) -> set[str]:
    sections = schema.Config.model_fields
    found = {name for name in SETTING.findall(prose(page)) if not name.endswith(FILES)}
    return {name for name in found if name.split(".")[0] in sections}


def pages_of(navigation: object) -> list[str]:
    if isinstance(navigation, str):
        return [navigation]
    parts = navigation.values() if isinstance(navigation, dict) else navigation
    return [page for part in parts for page in pages_of(part)]


def test_every_page_is_in_the_navigation_once():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    pages = [str(page.relative_to(DOCS)) for page in PAGES if page.is_relative_to(DOCS)]
    assert sorted(pages_of(site["nav"])) == sorted(pages)


@ONE_PER_PAGE
def test_links_resolve(page):
    for link in LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, fragment = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not fragment or fragment in anchors(target), link


@ONE_PER_PAGE
def test_links_of_the_site_stay_in_it(page):
    if not page.is_relative_to(DOCS):
        pytest.skip("not a page of the site")
    local = [link for link in LINK.findall(prose(page)) if "://" not in link]
    assert all((page.parent / link).resolve().is_relative_to(DOCS) for link in local)


@ONE_PER_PAGE
def test_settings_exist(page):
    if page.name == "CHANGELOG.md":
        pytest.skip("it names what was")
    assert settings_named(page) <= set(configuration.flatten(schema.Config()))


@ONE_PER_PAGE
def test_no_machine_paths_and_no_promises(page):
    text = page.read_text()
    assert not MACHINE_PATH.search(text)
    assert "unbiased" not in text.lower(), "the tool balances what it found, it promises no more"


def test_the_readme_is_one_screen():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_pictures_are_small():
    sizes = {p.name: p.stat().st_size for p in DOCS.rglob("*") if p.suffix in (".webp", ".png")}
    assert "before-after.webp" in sizes
    assert max(sizes.values()) < 200_000
