"""The table of docs/concepts/paper-to-code.md: every file, function and test of it exists."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "concepts" / "paper-to-code.md"
ROW = re.compile(r"^\|.*\| `([\w/]+\.py)` \| (.+?) \| (.+?) \|$", re.M)
NAME = re.compile(r"`([\w./:]+)`")
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))


def test_every_file_of_core_has_a_row():
    files = {file for file, _, _ in ROWS}
    package = ROOT / "src/invdiff"
    written = {str(p.relative_to(package)) for p in package.glob("core/**/[a-z]*.py")}
    assert written <= files, f"no row in {PAGE.name}: {sorted(written - files)}"


def test_every_line_with_a_file_is_read_as_a_row():
    """A row that the pattern misses would not be tested."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if ".py` |" in line]
    assert len(lines) == len(ROWS)


@pytest.mark.parametrize(("file", "functions", "tests"), ROWS)
def test_equations_are_where_the_table_says(file, functions, tests):
    package = "" if file.startswith("benchmarks/") else "invdiff."
    module = importlib.import_module(package + file.removesuffix(".py").replace("/", "."))
    names = NAME.findall(functions)
    assert names
    for name in names:
        target = module
        for part in name.split("."):
            target = getattr(target, part)
        # not merely imported there
        assert getattr(target, "__module__", module.__name__) == module.__name__, name
    found = NAME.findall(tests)
    assert found
    for name in found:
        path, _, test = name.partition("::")
        tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
        known = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert test in known, name
