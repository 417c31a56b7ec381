"""One name, one thing: no two public classes or functions of one name with different meanings."""

import ast
from collections import defaultdict
from pathlib import Path

import invdiff

SOURCE = Path(invdiff.__file__).parent

# The same thing in several modules, called by its module: `digits.draw`, `celeba.read`.
PROTOCOLS = {
    "draw": "data/sets/drawn: make the set",
    "read": "readers of one kind of files each",
    "load": "a network or a file by its name",
    "save": "a network to a file",
    "build": "a network, page or parser from its description",
    "make": "one of several kinds by its name",
    "main": "what a command runs",
}
# A verb of the command line and the function of the engine that it calls; a public function on
# arrays and the one of core that it checks the arguments for.
SAME_THING = {
    "augment", "evaluate", "prepare", "balanced_weights", "bias", "certificate",
}  # fmt: skip


def homes() -> dict[str, list[str]]:
    found = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if named and not node.name.startswith("_"):
                found[node.name].append(path.relative_to(SOURCE).as_posix())
    return found


def test_every_name_means_one_thing():
    known = PROTOCOLS.keys() | SAME_THING
    twice = {name: where for name, where in homes().items() if len(where) > 1 and name not in known}
    assert twice == {}


def test_the_exceptions_are_still_needed():
    found = homes()
    assert [name for name in PROTOCOLS.keys() | SAME_THING if len(found[name]) < 2] == []
