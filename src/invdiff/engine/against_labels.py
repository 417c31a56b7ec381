"""How well the inferred groups agree with labels, where the data carries any.

Read here, after everything that labels could have influenced; only the ``labels`` estimator, the
oracle, has opened them before.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from invdiff.data.samples import Samples
from invdiff.data.sources import read_labels
from invdiff.engine.config import Config
from invdiff.engine.files import read_json, read_parquet
from invdiff.engine.run import RunFolder
from invdiff.engine.sections import EMBEDDED_SETS


def has_labels(config: Config) -> bool:
    """Whether the data of the run carries labels."""
    return config.data.path in EMBEDDED_SETS or bool(config.data.label_column)


def groups_against_labels(run: RunFolder, data: Samples) -> dict[str, Any]:
    """How well q_1 finds each prompt's rarest label.

    Balanced accuracy of q_1 > 0.5 and area under the curve of q_1, both 0.5 by chance and null
    for a prompt without one rarest label. ``mean`` is over the ``found`` prompts alone.
    """
    section = run.config.data
    labels = np.asarray(read_labels(section.path, section.label_column, data))
    groups = read_parquet(run.path / "groups.parquet")
    weights = dict(zip(groups["sample_id"], groups["q_1"], strict=True))
    against = np.array([weights.get(one, np.nan) for one in data.sample_id])
    known = ~np.isnan(against)
    group_of = dict(zip(groups["sample_id"], groups["prompt"], strict=True))
    prompt = np.array([group_of.get(one, "") for one in data.sample_id])
    accuracy, area = {}, {}
    for name in sorted(set(groups["prompt"])):
        rows = (prompt == name) & known
        accuracy[name], area[name] = agreement(labels[rows], against[rows])
    verdicts = read_json(run.path / "discovery.json")["prompts"]
    found = [name for name in area if verdicts.get(name, {}).get("found") and area[name] >= 0]
    mean = {
        "balanced_accuracy": float(np.mean([accuracy[name] for name in found])) if found else None,
        "auc": float(np.mean([area[name] for name in found])) if found else None,
        "prompts": len(found),
    }
    return {"balanced_accuracy": accuracy, "auc": area, "mean": mean}


def agreement(labels: NDArray[np.str_], against: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Balanced accuracy and area under the curve for the rarest label; NaN if there is none."""
    rare = rarest(labels)
    if rare is None:
        return np.nan, np.nan
    truth = labels == rare
    accuracy = balanced_accuracy_score(truth, against > 0.5)
    return float(accuracy), float(roc_auc_score(truth, against))


def rarest(labels: NDArray[np.str_]) -> str | None:
    """The label with the fewest images; None if several have or if there is only one label."""
    values, counts = np.unique(labels, return_counts=True)
    fewest = values[counts == counts.min()] if len(values) > 1 else values[:0]
    return str(fewest[0]) if len(fewest) == 1 else None
