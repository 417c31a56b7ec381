"""What several tests of the report look at."""

import pytest

from invdiff.app.report import inputs
from invdiff.app.report.inputs import Inputs
from tests.app.report_fixture import write_run


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A run that was never made, as the report reads it; tests change copies."""
    return inputs.read(write_run(tmp_path_factory.mktemp("parts")))
