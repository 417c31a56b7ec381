"""What the documents say exists: commands, settings, links, Python names, equations."""

import ast
import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from invdiff.app.cli.arguments import build
from invdiff.engine.settings import config as configuration

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ONE_PER_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
INDENTED = re.compile(r"^ {4}((?:make|invdiff|pip) .*)$", re.M)
INLINE = re.compile(r"`((?:make|invdiff) [^`]+)`")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
MACHINE_PATH = re.compile(r"(?<![\w./])/(?:home|root|tmp|work|mnt|Users|data)/")
ROW = re.compile(r"^\|.*\| `(core/[\w/]+\.py)` \| (.+?) \| (.+?) \|$", re.M)
NAME = re.compile(r"`([\w./:]+)`")


def fenced(page: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(page.read_text()) if name == language]


def commands() -> list[str]:
    found = {
        c for p in PAGES for c in INDENTED.findall(p.read_text()) + INLINE.findall(p.read_text())
    }
    return sorted({command.split("  #")[0].split("   ")[0].strip() for command in found})


COMMANDS = commands()


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def options(words: list[str]) -> tuple[set[str], list[str]]:
    """Options of the parser that ``words`` lead to, and the words that are left."""
    parser = build()
    while True:
        actions = [a for a in parser._actions if a.choices and isinstance(a.choices, dict)]
        if not actions or not words or words[0].startswith("-"):
            return set(parser._option_string_actions), words
        assert words[0] in actions[0].choices, f"no verb {words[0]!r}"
        parser, words = actions[0].choices[words[0]], words[1:]


def test_the_documents_name_commands():
    assert {"make demo", "make test", "make check"} <= set(COMMANDS)
    assert any(command.startswith("invdiff run --config") for command in COMMANDS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command):
    target = next(word for word in command.split()[1:] if "=" not in word)
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("invdiff ")])
def test_commands_and_options_exist(command):
    known, rest = options(shlex.split(command)[1:])
    settings = {f"--{key}" for key in configuration.flatten(configuration.Config())}
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in known | settings, f"{command}: no option {word}"


@pytest.mark.parametrize("text", [t for p in PAGES for t in fenced(p, "toml")])
def test_toml_examples_are_configurations(text):
    configuration.parse(tomllib.loads(text))


@pytest.mark.parametrize("text", [t for p in PAGES for t in fenced(p, "python")])
def test_python_examples_use_names_that_exist(text):
    import invdiff

    tree = ast.parse(text)
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    for node in used:
        if isinstance(node.value, ast.Name) and node.value.id == "invdiff":
            assert hasattr(invdiff, node.attr), node.attr
        if isinstance(node.value, ast.Name) and node.value.id == "run":
            assert hasattr(invdiff.Run, node.attr), node.attr


@pytest.mark.parametrize(
    "setting",
    sorted(
        {
            name
            for page in PAGES
            for name in re.findall(r"`(\w+\.\w+)(?: = [^`]+)?`", page.read_text())
            if name.split(".")[0] in configuration.Config.model_fields and name != "report.html"
        }
    ),
)
def test_settings_exist(setting):
    assert setting in configuration.flatten(configuration.Config())


@ONE_PER_PAGE
def test_links_resolve(page):
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, fragment = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if fragment:
            assert fragment in map(anchor, HEADING.findall(target.read_text())), link


@ONE_PER_PAGE
def test_no_machine_paths_and_no_promises(page):
    text = page.read_text()
    assert not MACHINE_PATH.search(text)
    assert "unbiased" not in text.lower(), "the tool balances what it found, it promises no more"


def test_readme_has_a_place_for_the_benchmark():
    begin, end = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
    text = (ROOT / "README.md").read_text()
    assert text.count(begin) == text.count(end) == 1
    assert text.index(begin) < text.index(end)


EQUATIONS = ROW.findall((ROOT / "docs" / "method.md").read_text())


def test_the_method_names_its_functions():
    assert len(EQUATIONS) >= 10
    files = {file for file, _, _ in EQUATIONS}
    core = ROOT / "src/invdiff"
    written = {str(p.relative_to(core)) for p in core.glob("core/**/[a-z]*.py")}
    assert written <= files, f"no row in docs/method.md: {sorted(written - files)}"


@pytest.mark.parametrize(("file", "functions", "tests"), EQUATIONS)
def test_equations_are_where_the_table_says(file, functions, tests):
    module = importlib.import_module("invdiff." + file.removesuffix(".py").replace("/", "."))
    for name in NAME.findall(functions):
        target = module
        for part in name.split("."):
            target = getattr(target, part)
    if tests == "-":
        pytest.xfail(f"{functions} of {file} have no test yet")
    for name in NAME.findall(tests):
        path, _, test = name.partition("::")
        text = (ROOT / "tests" / path).read_text()
        assert not test or f"def {test}(" in text, name
