"""The stages of a run in their order: each is skipped if it is done, and marked when it is."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import STAGES
from invdiff.errors import RunError

if TYPE_CHECKING:
    from invdiff.engine.encoding.session import Session

logger = logging.getLogger(__name__)

# Module and function of each stage, imported when it is its turn. The report is the app's.
HOMES = {
    "discover": ("invdiff.engine.discovery.discover", "discover"),
    "train": ("invdiff.engine.training.train", "train"),
    "sample": ("invdiff.engine.sampling.sample", "sample"),
    "evaluate": ("invdiff.engine.evaluation.evaluate", "evaluate"),
}


def session_of(run: RunFolder) -> "Session":
    """What the stages of ``run`` work with."""
    from invdiff.engine.encoding.session import Session  # torch, not before a stage needs it

    return Session(run.path, run.config, run.pipeline, run.base_model)


def do_stage(run: RunFolder, stage: str, home: tuple[str, str] | None = None) -> None:
    """Do ``stage`` of ``run`` unless it is done; ``home`` is where a stage of the app lives.

    A stage is a function of the session; what it returns stands in ``stages/<stage>.json``.
    """
    try:
        run.require_inputs()
    except RunError as error:
        if stage != STAGES[-1]:
            raise
        logger.warning("%s", error)  # a report shows what the stages before it have left
    if run.done(stage):
        run.require(stage, by=stage)  # done, and still what it was
        return
    module, function = home or HOMES[stage]
    with run.stage(stage) as facts:
        facts |= getattr(import_module(module), function)(session_of(run))
