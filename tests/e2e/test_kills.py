"""The short form of the stress run; the long one is a command of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stress

SLOW = pytest.mark.skipif(
    "INVDIFF_SIGNAL_TESTS" not in os.environ,
    reason="INVDIFF_SIGNAL_TESTS=1 runs it: several processes, minutes if busy",
)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(("size", "kills"), [("1", "4"), pytest.param("2", "2", marks=SLOW)])
def test_killed_runs_end_as_if_left_in_peace(size, kills):
    done = subprocess.run(
        [sys.executable, stress.__file__, "--kills", kills, "--processes", size],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "every run ended as if it had been left in peace" in done.stdout
