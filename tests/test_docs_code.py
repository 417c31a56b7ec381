"""No code block of the documents that is not executed or checked.

Python is executed in a folder where the names that the pages use exist: a tiny pipeline at
`path/to/pipeline`, pictures at `path/to/pictures`, a finished run at `runs/mine`. A line of bash is
a command of InvDiff, which the real parser reads with its settings, or one that is checked by name.
TOML is a configuration. `text` is what a command prints.
"""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from invdiff.app.cli.parser import build, parse
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings import schema
from tests.test_docs import PAGES, ROOT
from tests.tiny_world import copy_of, finished, world

__all__ = ["finished", "world"]

FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.M | re.S)
INDENTED = re.compile(r"^ {4}((?:make|invdiff|pip|python) .*)$", re.M)
INLINE = re.compile(r"`((?:make|invdiff|python) [^`\n]+)`")
CHECKED = {"bash", "python", "toml", "text", "bibtex"}
BEFORE_MODULE = re.compile(r"^(?:torchrun|accelerate launch|python)\b.*? -m invdiff ")
TINY = """
processes = 1
[model]
path = "path/to/pipeline"
dtype = "float32"
[data]
path = "path/to/pictures"
image_size = 16
[discover]
images_per_prompt = 45
levels = [0.95]
[train]
steps = 2
[calibrate]
images_per_prompt = 4
[sample]
images_per_prompt = 2
guidance_scales = [1.0]
steps = 2
"""


def blocks(page: Path, language: str) -> list[str]:
    found = [(name, indent, body) for indent, name, body in FENCE.findall(page.read_text())]
    return [
        re.sub(f"^{indent}", "", body, flags=re.M)
        for name, indent, body in found
        if name == language
    ]


def commands(page: Path) -> list[str]:
    """Those of blocks."""
    joined = [re.sub(r"\\\n *", "", block) for block in blocks(page, "bash")]
    lines = [line for block in joined for line in block.splitlines()]
    lines += INDENTED.findall(FENCE.sub("", page.read_text()))
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def mentions(page: Path) -> list[str]:
    """Those within a sentence, which may leave something out."""
    return INLINE.findall(FENCE.sub("", page.read_text()))


COMMANDS = sorted({command for page in PAGES for command in commands(page)})
MENTIONS = sorted({command for page in PAGES for command in mentions(page)})
WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.fixture(scope="module")
def place(world, finished, tmp_path_factory) -> Path:
    """The folder that the pages speak of."""
    root = tmp_path_factory.mktemp("reader")
    shutil.copytree(world.model, root / "path/to/pipeline")
    shutil.copytree(world.data, root / "path/to/pictures")
    copy_of(finished, root / "runs/mine")
    for arm, name in (("base", "before"), ("guided", "after")):
        for picture in (finished / "samples").glob(f"*/*-{arm}-1.png"):
            to = root / "path/to" / name / picture.parent.name / picture.name.replace(arm, "")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, to)
    (root / "mine.toml").write_text(TINY)
    (root / "evened").mkdir()
    (root / "evened/metadata.csv").write_text("file_name,synthetic\na.png,false\nb.png,true\n")
    return root


def test_blocks_are_of_languages_that_are_checked():
    for page in PAGES:
        assert {name for _, name, _ in FENCE.findall(page.read_text())} <= CHECKED, page


def test_the_documents_name_commands():
    assert {"make demo", "invdiff demo"} <= set(COMMANDS)
    assert any(command.startswith("invdiff run --preset sd15 --config") for command in COMMANDS)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_runs(page, place, monkeypatch):
    monkeypatch.chdir(place)
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("text", [t for page in PAGES for t in blocks(page, "toml")])
def test_toml_is_a_configuration(text):
    configuration.load(tomllib.loads(text))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_blocks_are_whole(command):
    first, *words = shlex.split(BEFORE_MODULE.sub("invdiff ", command))
    if first == "invdiff":
        asked = parse(words)
        assert not asked.problems
        # a value in capitals stands for one of the reader's
        configuration.load({}, [o for o in asked.overrides if not o.partition("=")[2].isupper()])
        assert str(getattr(asked, "config", None)) in ("None", "mine.toml")
    else:
        assert first in OTHERS, f"{command}: nothing checks {first}"
        OTHERS[first](words)


@pytest.mark.parametrize("command", MENTIONS)
def test_commands_in_sentences_exist(command):
    first, *words = shlex.split(BEFORE_MODULE.sub("invdiff ", command))
    if first == "invdiff":
        known = options(words) | {f"--{key}" for key in configuration.flatten(schema.Config())}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= known
    else:
        OTHERS[first](words)


def options(words: list[str]) -> set[str]:
    """Options of the parser that the verbs in ``words`` lead to."""
    parser, rest = build(), list(words)
    while True:
        deeper = [a for a in parser._actions if isinstance(a.choices, dict)]
        if not deeper or not rest or rest[0].startswith("-"):
            return set(parser._option_string_actions)
        assert rest[0] in deeper[0].choices, f"no verb {rest[0]!r}"
        parser = deeper[0].choices[rest.pop(0)]


def make(words: list[str]) -> None:
    target = next(word for word in words if "=" not in word)
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.M)


def pip(words: list[str]) -> None:
    assert words[0] == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= set(extras)


def python(words: list[str]) -> None:
    """A script or module of the repository that knows these options."""
    if words[0] == "-m":
        parts = Path(*words[1].split("."))
        files = [base / tail for base in (ROOT, ROOT / "src") for tail in (parts, f"{parts}.py")]
        source = next(file for file in files if file.exists())
        text = "".join(
            p.read_text() for p in ([source] if source.is_file() else source.glob("*.py"))
        )
    else:
        text = (ROOT / words[0]).read_text()
    for word in words[1:]:
        if word.startswith("--"):
            assert f'"{word.partition("=")[0]}"' in text, word


def system(words: list[str]) -> None:
    """Packages of the system: only that something is asked for."""
    assert words[0] in ("install", "download", "update")


OTHERS = {"make": make, "pip": pip, "python": python, "apt-get": system}


def test_the_site_is_built_by_ci():
    assert "make docs" in (ROOT / ".ci/run").read_text()
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text())["strict"] is True
