"""The rows of the benchmark by name: what each changes in the default recipe, and their suites."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

OURS = "inferred groups"
ORACLE = "label oracle"
SUFFIX = "prompt suffix"
ABLATION = "ablation"
FIXED = ("sample.strength=1.0", "calibrate.strengths=[1.0]", "train.share_feedback=[]")
GUIDED = ("study.arms=['guided']",)


@dataclass(frozen=True)
class Row:
    """What a row changes, and in ``words`` what it is; its figures are those of ``arm``."""

    changes: tuple[str, ...]
    words: str
    arm: Literal["base", "guided"] = "guided"


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

ROWS: Mapping[str, Row] = {
    OURS: Row((), "the default recipe; reads no label"),
    ORACLE: Row(
        ("discover.estimator='labels'", *GUIDED),
        "the default recipe with the data's labels for groups",
    ),
    "top loss": Row(
        ("study.estimator='top_loss'", *GUIDED),
        "the default recipe with the pictures of each prompt's largest plain losses for a group; "
        "reads no label",
    ),
    "no groups": Row(
        ("study.estimator='none'", *FIXED, *GUIDED),
        "the default recipe without groups",
    ),
    "random groups": Row(
        ("study.estimator='random'", *FIXED, *GUIDED),
        "the default recipe with a random fifth of each prompt for a group",
    ),
    "reference recipe": Row(
        (
            "study.estimator='reference'",
            "study.objective='reference'",
            "study.target='sample'",
            *FIXED,
            *GUIDED,
        ),
        "groups and objective as the authors' released code computes them, with our LoRA",
    ),
    SUFFIX: Row(
        ("study.estimator='none'", "train.steps=0", "study.arms=['base']", *FIXED),
        "the base model, asked for diversity in the prompt; nothing is trained",
        "base",
    ),
    "balanced fine-tune": Row(
        (
            "discover.estimator='labels'",
            "train.variance_weight=0.0",
            "study.target='sample'",
            *FIXED,
            *GUIDED,
        ),
        "the same LoRA under the plain mean loss, on training pictures drawn by label so that a "
        "prompt's groups are even (the rare ones repeat); no variance term, no share feedback, no "
        "calibration",
    ),
    **{
        name: Row((change, *GUIDED), f"the default recipe with `{change}`")
        for name, change in ABLATED.items()
    },
}

SUITES: Mapping[str, tuple[str, ...]] = {
    "controls": (OURS, ORACLE, "no groups", "random groups", "reference recipe"),
    "baselines": (SUFFIX, "balanced fine-tune", ORACLE, "top loss", "reference recipe", OURS),
    ABLATION: (OURS, *ABLATED),
}
"""The first is the default; its tables are beside the runs, those of the others in a folder."""
DOWNSTREAM = "augment"
"""A suite that is no table of runs: :mod:`invdiff.studies.benchmarking.downstream.study`."""
METHOD = "method"
"""Discovery and its effect on every built-in set: :mod:`method.suite`."""
