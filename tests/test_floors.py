"""The first second of `invdiff` belongs to the user: heavy libraries load when they are used.

What may import what inside the package is checked by import-linter (`make lint`).
"""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "pydantic", "matplotlib", "sklearn", "scipy")
CPU_SECONDS = 1.0  # an interpreter with argparse needs a tenth of it

PROBE = f"""
import json, sys, time
started = time.process_time()
try:
    {{statement}}
except SystemExit as stop:
    assert not stop.code, stop.code
spent = time.process_time() - started
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps({{{{"loaded": loaded, "spent": spent}}}}))
"""

HELP = "from invdiff.app.cli import main; sys.argv = ['invdiff', {arguments}]; sys.exit(main())"


def run_probe(statement: str) -> dict:
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
    found = run_probe(statement)
    assert found["loaded"] == []
    assert found["spent"] < CPU_SECONDS


def test_the_probe_sees_a_heavy_import():
    assert run_probe("import scipy")["loaded"] == ["scipy"]


def test_shapes_of_core_are_checked_while_the_tests_run():
    """The pytest option works: dimensions that only the annotation rules out are refused."""
    import jaxtyping
    import torch

    from invdiff.core.objective import mean_variance

    with pytest.raises(jaxtyping.TypeCheckError):
        mean_variance(torch.ones(1), torch.full((2,), 0.5), 1.0)
