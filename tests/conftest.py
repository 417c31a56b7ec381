"""Settings every test runs under: one thread, no network, no display, the same examples each time.

Nothing of `invdiff` is imported here: jaxtyping hooks `invdiff.core` before its first import.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import hypothesis
import pytest
import torch

torch.set_num_threads(1)

# A busy machine is slow, not wrong; examples are derandomised, so a red test is red again.
hypothesis.settings.register_profile("suite", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """A test that forgets its generator still draws the same numbers in any order."""
    torch.manual_seed(0)
