"""The rows of the benchmark by name: what each changes in the default recipe, and their suites."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

OURS = "inferred groups"
ORACLE = "label oracle"
SUFFIX = "prompt suffix"
FIXED = ("sample.strength=1.0", "calibrate.strengths=[1.0]", "train.feedback=[]")
GUIDED = ("sample.arms=['guided']",)


@dataclass(frozen=True)
class Row:
    """What a row changes, and in ``words`` what it is; its figures are those of ``arm``."""

    changes: tuple[str, ...]
    words: str
    arm: Literal["base", "guided"] = "guided"


ROWS: Mapping[str, Row] = {
    OURS: Row((), "the default recipe; reads no label"),
    ORACLE: Row(
        ("discover.estimator='labels'", *GUIDED),
        "the default recipe with the data's labels for groups",
    ),
    "top loss": Row(
        ("discover.estimator='top_loss'", *GUIDED),
        "the default recipe with the pictures of each prompt's largest plain losses for a group; "
        "reads no label",
    ),
    "no groups": Row(
        ("discover.estimator='none'", *FIXED, *GUIDED),
        "the default recipe without groups",
    ),
    "random groups": Row(
        ("discover.estimator='random'", *FIXED, *GUIDED),
        "the default recipe with a random fifth of each prompt for a group",
    ),
    "reference recipe": Row(
        (
            "discover.estimator='reference'",
            "train.objective='reference'",
            "train.loss_space='epsilon'",
            "train.target='sample'",
            *FIXED,
            *GUIDED,
        ),
        "groups and objective as the authors' released code computes them, with our LoRA",
    ),
    SUFFIX: Row(
        ("discover.estimator='none'", "train.steps=0", "sample.arms=['base']", *FIXED),
        "the base model, asked for diversity in the prompt; nothing is trained",
        "base",
    ),
    "balanced fine-tune": Row(
        (
            "discover.estimator='labels'",
            "train.objective='mean'",
            "train.target='sample'",
            *FIXED,
            *GUIDED,
        ),
        "the same LoRA under the plain mean loss, on training pictures drawn by label so that a "
        "prompt's groups are even (the rare ones repeat); no variance term, no look back, no "
        "calibration",
    ),
}

SUITES: Mapping[str, tuple[str, ...]] = {
    "controls": (OURS, ORACLE, "no groups", "random groups", "reference recipe"),
    "baselines": (SUFFIX, "balanced fine-tune", ORACLE, "top loss", "reference recipe", OURS),
}
"""The first is the default; its tables are beside the runs, those of the others in a folder."""
DOWNSTREAM = "augment"
"""A suite that is no table of runs: :mod:`invdiff.engine.augment.downstream`."""
METHOD = "method"
"""Discovery and its effect on every built-in set: :mod:`invdiff.engine.method_suite.suite`."""
