"""The first second of `invdiff` belongs to the user: heavy libraries load when they are used.

What may import what inside the package is checked by import-linter (`make lint`).
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAVY = ("torch", "diffusers", "transformers", "pydantic", "matplotlib", "sklearn", "scipy")

PROBE = f"""
import json, sys
try:
    {{statement}}
except SystemExit as stop:
    assert not stop.code, stop.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps(loaded))
"""

HELP = "from invdiff.app.cli import main; sys.argv = ['invdiff', {arguments}]; sys.exit(main())"


def loaded_by(statement: str) -> list[str]:
    probe = PROBE.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "statement",
    [
        "import invdiff",
        HELP.format(arguments="'--help'"),
        HELP.format(arguments="'train', '--help'"),
        HELP.format(arguments="'--version'"),
    ],
    ids=["import", "help", "help of a verb", "version"],
)
def test_light_commands_load_no_heavy_library(statement):
    assert loaded_by(statement) == []


def test_the_probe_sees_a_heavy_import():
    assert loaded_by("import scipy") == ["scipy"]


def test_shapes_of_core_are_checked_while_the_tests_run():
    """The pytest option works: dimensions that only the annotation rules out are refused."""
    import jaxtyping
    import torch

    from invdiff.core.balancing.reweighting import mean_variance

    with pytest.raises(jaxtyping.TypeCheckError):
        mean_variance(torch.ones(1), torch.full((2,), 0.5), 1.0)


def imported() -> set[str]:
    """Top-level packages that the source imports, ours and the standard library's left out."""
    names = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"invdiff"}


def test_dependencies_are_what_the_source_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=]", line)[0] for line in project["dependencies"]}
    extras = project["optional-dependencies"]
    optional = {
        re.split(r"[<>=]", line)[0] for name in extras if name != "dev" for line in extras[name]
    }
    called = {"PIL": "pillow", "sklearn": "scikit-learn", "torch_fidelity": "torch-fidelity"}
    found = {called.get(name, name) for name in imported()}
    assert declared <= found <= declared | optional


def test_constraints_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.M)
    plain = {name.lower().replace("_", "-") for name in pinned}
    assert {re.split(r"[<>=]", line)[0] for line in wanted} <= plain


def test_test_files_have_names_of_their_own():
    """Two of one name end the collection of the second, and with it the whole run."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
