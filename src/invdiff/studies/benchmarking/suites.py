"""The rows of the benchmark by name: what each changes in the default recipe, and their suites."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

OURS = "inferred groups"
ORACLE = "label oracle"
SUFFIX = "prompt suffix"
ABLATION = "ablation"
FIXED = ("sample.strength=1.0", "calibrate.strengths=[1.0]", "train.share_feedback=[]")
"""The changes of an ``uncorrected`` row: no pictures of its own correct shares or strength."""


@dataclass(frozen=True)
class Row:
    """What a row changes, and in ``words`` what it is; its figures are those of ``arm``."""

    changes: tuple[str, ...]
    words: str
    arm: Literal["base", "guided"] = "guided"

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> Self:
        """A row of ``rows.toml``."""
        fixed = FIXED if table.get("uncorrected") else ()
        changes = (*table.get("changes", ()), *fixed)
        return cls(changes, table["words"], table.get("arm", "guided"))


ABLATED: Mapping[str, str] = {
    "plain memberships": "study.certainty=1.0",
    "even levels": "study.level_focus=1.0",
    "plain risks": "study.objective='plain'",
    "GroupDRO": "study.objective='groupdro'",
    "reference objective": "study.objective='pooled'",
    "lambda 0": "train.variance_weight=0.0",
    "lambda 1": "train.variance_weight=1.0",
    "rank 4": "train.rank=4",
    "rank 16": "train.rank=16",
    "sample target": "study.target='sample'",
    "no share feedback": "train.share_feedback=[]",
    "null prompt untrained": "train.prompt_dropout=0.0",
    "mirrored": "train.random_flip=true",
    "high-noise window": "sample.window=[0.5, 1.0]",
}
"""Row -> the one setting of the recipe that it changes."""

_TABLES = tomllib.loads(Path(__file__).with_name("rows.toml").read_text("utf-8"))
ROWS: Mapping[str, Row] = {name: Row.of_table(table) for name, table in _TABLES.items()} | {
    name: Row((change, "study.arms=['guided']"), f"the default recipe with `{change}`")
    for name, change in ABLATED.items()
}

SUITES: Mapping[str, tuple[str, ...]] = {
    "controls": (OURS, ORACLE, "no groups", "random groups", "reference recipe"),
    "baselines": (SUFFIX, "balanced fine-tune", ORACLE, "top loss", "reference recipe", OURS),
    ABLATION: (OURS, *ABLATED),
}
"""The first is the default; its tables are beside the runs, those of the others in a folder."""
DOWNSTREAM = "augment"
"""A suite that is no table of runs: :mod:`invdiff.studies.benchmarking.downstream`."""
ATTRIBUTES = "attributes"
"""Inferred attributes beside the labelled ones: :mod:`attributes_suite`."""
METHOD = "method"
"""Discovery and its effect on every built-in set: :mod:`method_suite`."""
