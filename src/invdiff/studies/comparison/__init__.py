"""Estimators and objectives that exist to be compared with."""

from invdiff.engine.discovery.estimators import ESTIMATORS
from invdiff.engine.training.mixture import RISKS
from invdiff.studies.comparison import estimators, objectives


def register() -> None:
    """Make them known by their names to the stages of a run (``study.estimator``, ...)."""
    ESTIMATORS.update(estimators.COMPARED)
    RISKS.update(objectives.COMPARED)
