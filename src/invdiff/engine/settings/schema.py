"""All settings of a run as one frozen object, and what is impossible together."""

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from invdiff.engine.settings.common import (
    EMBEDDED_SETS,
    CalibrateSection,
    DataSection,
    EvaluateSection,
    ModelSection,
    SampleSection,
    Section,
    wrong_classes,
)
from invdiff.engine.settings.method import DiscoverSection, TrainSection
from invdiff.engine.settings.study import SEVERAL, StudySection


class Config(Section):
    """All settings of a run, made by ``invdiff.Run`` of a preset, a file and single settings."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of every random draw of the run."""
    processes: int = Field(0, ge=0, le=256)
    """Worker processes; 0 is 2 for the command on a CPU of several cores, else 1."""
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    discover: DiscoverSection = DiscoverSection()
    train: TrainSection = TrainSection()
    calibrate: CalibrateSection = CalibrateSection()
    sample: SampleSection = SampleSection()
    evaluate: EvaluateSection = EvaluateSection()
    study: StudySection = StudySection()

    @property
    def estimator(self) -> str:
        """How groups are found: a comparison's own estimator, or the user's."""
        return self.study.estimator or self.discover.estimator

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if problem := next(_impossible(self), None):
            raise ValueError(problem)
        return self


def _impossible(config: Config) -> Iterator[str]:
    """What is wrong with settings together, each of which is possible by itself."""
    data, train, evaluate = config.data, config.train, config.evaluate
    embedded, way = data.path in EMBEDDED_SETS, data.prompt_groups
    if config.estimator == "labels" and not data.label_column and not embedded:
        yield (
            'data.label_column: discover.estimator = "labels" needs it; name the metadata '
            "column that holds the labels"
        )
    if len(config.discover.target) > 2 and config.estimator not in SEVERAL:
        yield (
            f"discover.target: the estimator {config.estimator} infers two groups; more come "
            f"from {' or '.join(SEVERAL)}"
        )
    if config.discover.attributes > 1 and config.discover.target:
        yield "discover.target: crossed attributes are balanced to even shares; leave it out"
    if config.discover.attributes > 1 and config.estimator != "auto":
        yield f"discover.attributes: the estimator {config.estimator} infers none; leave it out"
    if way == "column" and not data.group_column:
        yield (
            'data.group_column: data.prompt_groups = "column" needs it; name the metadata '
            "column that holds the groups"
        )
    if data.group_column and way not in ("auto", "column"):
        yield f'data.group_column: data.prompt_groups = "{way}" does not read it; leave one out'
    for name in ("group_column", "quarantine"):
        if embedded and getattr(data, name):
            yield f"data.{name}: is for data of your own; leave it out"
    known = evaluate.classifier
    if known in EMBEDDED_SETS and known != data.path:
        yield f'evaluate.classifier: "{known}" knows the set {known} only; use "auto" or "none"'
    nobody = known == "none" or (known == "auto" and not embedded) or known.startswith("column:")
    if evaluate.strength_curve and nobody:
        yield "evaluate.strength_curve: needs a classifier; name one in evaluate.classifier"
    if problem := wrong_classes(known, evaluate.classes):
        yield f"evaluate.classes: {problem}"
    processes, parts = max(1, train.processes), train.gradient_accumulation_steps
    if processes * parts > train.batch_size:
        yield (
            f"train.gradient_accumulation_steps: {processes} processes in {parts} parts each "
            f"leave no image of a batch of {train.batch_size} for each part; lower one of them"
        )
