"""What several tests of the report look at."""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from invdiff.app.report import inputs, montage, plots
from invdiff.app.report.inputs import Inputs
from invdiff.app.report.montage import InlinePicture
from tests.app.report_fixture import write_run


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A run that was never made, as the report reads it; tests change copies."""
    return inputs.read(write_run(tmp_path_factory.mktemp("parts")))


@pytest.fixture(scope="module")
def drawn_once() -> Iterator[None]:
    """Pages that show the same drawings or pictures share them: most tests change a text."""
    known: dict[bytes, InlinePicture] = {}

    def remembered(draw: Callable[..., InlinePicture]) -> Callable[..., InlinePicture]:
        def of(*given: Any, **more: Any) -> InlinePicture:
            key = pickle.dumps((draw.__name__, given, more))
            return known[key] if key in known else known.setdefault(key, draw(*given, **more))

        return of

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(montage, "grid", remembered(montage.grid))
        for name in ("dumbbell", "plot_profile", "plot_reliability", "plot_training"):
            patch.setattr(plots, name, remembered(getattr(plots, name)))
        yield
