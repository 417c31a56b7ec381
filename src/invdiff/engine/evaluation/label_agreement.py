"""How well the inferred groups agree with labels, where the data carries any.

Read here, after everything that labels could have influenced; only the ``labels`` estimator, the
oracle, has opened them before.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score, roc_auc_score

from invdiff.core.groups.memberships import Membership, hard, memberships
from invdiff.data.samples import Samples
from invdiff.data.sources import read_labels
from invdiff.engine.encoding.session import Session
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.settings.schema import Config

MEASURES = ("balanced_accuracy", "auc", "adjusted_rand", "matched_accuracy")


def has_labels(config: Config) -> bool:
    """Whether the data of the run carries labels."""
    return config.data.path in EMBEDDED_SETS or bool(config.data.label_column)


def compare_with_labels(session: Session, data: Samples) -> dict[str, Any]:
    """How well q_1 finds each prompt's rarest label, and how alike groups and labels are.

    Balanced accuracy of q_1 > 0.5 and area under the curve of q_1, both 0.5 by chance and null
    where all labels are as frequent. Several labels that are equally rare count as one. Of more
    than two groups those that suit the rarest labels best take the place of group 1; that is chosen
    with the labels, so chance is a little above 0.5.
    ``adjusted_rand`` (0 by chance, 1 for equal partitions) and ``matched_accuracy`` compare the
    groups with all labels. ``mean`` is over the ``found`` prompts alone.
    """
    section = session.config.data
    labels = np.asarray(read_labels(section.path, section.label_column, data))
    groups = session.results.groups
    row_of = {one: row for row, one in enumerate(groups.sample_id)}
    known = np.array([one in row_of for one in data.sample_id])
    q = groups.membership[[row_of.get(one, 0) for one in data.sample_id]]
    group_of = dict(zip(groups.sample_id, groups.prompt, strict=True))
    prompt = np.array([group_of.get(one, "") for one in data.sample_id])
    agreed: dict[str, dict[str, float]] = {measure: {} for measure in MEASURES}
    for name in sorted(set(groups.prompt)):
        rows = (prompt == name) & known
        group = hard(q[rows])
        two = label_agreement(labels[rows], q[rows])
        all_of_them = adjusted_rand(labels[rows], group), matched_accuracy(labels[rows], group)
        for measure, value in zip(MEASURES, (*two, *all_of_them), strict=True):
            agreed[measure][name] = value
    searched = session.results.discovery.found
    found = [name for name, area in agreed["auc"].items() if name in searched and area >= 0]
    mean = {
        measure: float(np.mean([values[name] for name in found])) if found else None
        for measure, values in agreed.items()
    }
    return agreed | {"mean": mean | {"prompts": len(found)}}


def label_agreement(labels: NDArray[np.str_], member: Membership) -> tuple[float, float]:
    """Balanced accuracy and area under the curve for the rarest labels; NaN if there are none."""
    truth = np.isin(labels, rarest(labels))
    if not truth.any():
        return np.nan, np.nan
    suited = [1] if member.ndim == 1 else _suited(labels, hard(member), member.shape[1])
    against = memberships(member)[:, suited].sum(1)
    accuracy = balanced_accuracy_score(truth, np.isin(hard(member), suited))
    return float(accuracy), float(roc_auc_score(truth, against))


def _suited(labels: NDArray[np.str_], group: NDArray[np.integer[Any]], count: int) -> list[int]:
    """The groups that stand for the rarest labels when each stands for one label at most."""
    names, recall = _recall(labels, group, count)
    at, groups = linear_sum_assignment(-recall)
    rare = np.isin(names[at], rarest(labels))
    return [int(one) for one in groups[rare]]


def adjusted_rand(labels: NDArray[np.str_], group: NDArray[np.integer[Any]]) -> float:
    """Adjusted Rand index of groups and labels; NaN without two labels to tell apart."""
    return float(adjusted_rand_score(labels, group)) if len(np.unique(labels)) > 1 else np.nan


def matched_accuracy(labels: NDArray[np.str_], group: NDArray[np.integer[Any]]) -> float:
    """Balanced accuracy over all labels, each group taken for the label that suits it best.

    A group stands for one label at most; a label that no group stands for counts 0, so two groups
    reach one half of four labels. NaN without two labels to tell apart.
    """
    if len(np.unique(labels)) < 2:
        return np.nan
    names, recall = _recall(labels, group, int(group.max()) + 1)
    return float(recall[linear_sum_assignment(-recall)].sum() / len(names))


def _recall(
    labels: NDArray[np.str_], group: NDArray[np.integer[Any]], count: int
) -> tuple[NDArray[np.str_], NDArray[np.floating[Any]]]:
    """The labels, and of each the shares (label, group) of its images in each group."""
    names, codes = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(names), count))
    np.add.at(counts, (codes, group), 1)
    return names, counts / counts.sum(1, keepdims=True)


def rarest(labels: NDArray[np.str_]) -> list[str]:
    """The labels with the fewest images; none if all have as many."""
    values, counts = np.unique(labels, return_counts=True)
    fewest = values[counts == counts.min(initial=len(labels))]
    return [] if len(fewest) == len(values) else [str(value) for value in fewest]
