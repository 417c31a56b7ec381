"""How often a classifier is wrong on pictures whose labels are known, and when it abstains.

Confusion is in its header, or measured now on pictures with labels that it was not trained on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.core.measurement import parity
from invdiff.data.readers.listing import one_spelling
from invdiff.data.samples import Pictures, Samples
from invdiff.data.sets.stored import open_set
from invdiff.data.sources import read_labels
from invdiff.engine.classifiers.choose import Chosen, effective
from invdiff.engine.distributed import randomness
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.settings.schema import Config
from invdiff.errors import DataError

ABSTAINED = "abstained"
# Confusion matrices in the header of a file are for these values of evaluate.abstain_below.
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# A classifier that is right less often than this is warned about.
LEAST_ACCURACY = 0.9


def decide(
    probabilities: NDArray[np.floating[Any]], classes: Sequence[str], abstain_below: float = 0.0
) -> NDArray[np.str_]:
    """The most probable class of each row, or ``ABSTAINED`` where it is less probable than that."""
    best = np.asarray([*classes, ABSTAINED])[probabilities.argmax(1)]
    return np.where(probabilities.max(1) < abstain_below, ABSTAINED, best)


def claims(
    labels: Sequence[str], estimated: Sequence[str], classes: Sequence[str], abstaining: bool
) -> dict[str, Any]:
    """Accuracy and confusion counts (row: true, column: estimated, the last one abstentions).

    Accuracy is that of the pictures on which the classifier did not abstain; None without any.

    Raises:
        DataError: a label that is no class.
    """
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise DataError(
            f"the label {unknown[0]!r} is no class of the classifier ({', '.join(classes)}): name "
            "the classes as the labels, or leave those pictures out"
        )
    columns = [*classes, ABSTAINED] if abstaining else list(classes)
    counts = parity.table(list(labels), list(estimated), list(classes), columns)
    decided = counts[:, : len(classes)]
    return {
        "classes": list(classes),
        "accuracy": float(decided.trace() / decided.sum()) if decided.sum() else None,
        "held_out": len(labels),
        "confusion": counts.tolist(),
    }


def at_every_threshold(
    labels: Sequence[str], probabilities: NDArray[np.floating[Any]], classes: Sequence[str]
) -> dict[str, Any]:
    """:func:`claims` without abstaining, and under ``abstaining`` for each threshold."""

    def at(threshold: float) -> dict[str, Any]:
        estimated = decide(probabilities, classes, threshold).tolist()
        return claims(labels, estimated, classes, threshold > 0)

    return at(0.0) | {"abstaining": {str(t): at(t) for t in THRESHOLDS if t > 0}}


def stored(claim: Mapping[str, Any], abstain_below: float) -> dict[str, Any]:
    """What a header claims at a threshold; its classes alone if it was not measured there."""
    if abstain_below == 0:
        return {key: value for key, value in claim.items() if key != "abstaining"}
    known = claim.get("abstaining", {}).get(str(float(abstain_below)))
    return dict(known) if known else {"classes": claim["classes"]}


def warning(name: str, attribute: str, claim: Mapping[str, Any]) -> str | None:
    """A sentence for a classifier that is often wrong, or whose errors are unknown."""
    accuracy = claim.get("accuracy")
    if accuracy is None:
        return (
            f"How often the classifier {name} is wrong about {attribute} was not measured: there "
            "were no labelled pictures to do so. Shares stand as it estimated them."
        )
    if accuracy < LEAST_ACCURACY:
        return (
            f"The classifier {name} is right about {attribute} on {accuracy:.1%} of "
            f"{claim['held_out']:,} held-out pictures, less than {LEAST_ACCURACY:.0%}: prefer the "
            "shares corrected for its errors, and mind their intervals."
        )
    return None


def claims_of(
    config: Config, data: Samples, chosen: Chosen, most: int
) -> dict[str, dict[str, Any]]:
    """How often the classifier is wrong about each attribute, as far as that is known.

    From its header; else, if it was not trained here, measured on at most ``most`` pictures whose
    labels are known.
    """
    threshold, classifier = config.evaluate.abstain_below, chosen.classifier
    known = classifier.facts.get("attributes", {})
    found = {
        name: stored(known.get(name, {"classes": list(classes)}), threshold)
        for name, classes in classifier.classes.items()
    }
    foreign = classifier.facts["trained_on"] is None or effective(config) in EMBEDDED_SETS
    measure = foreign and "confusion" not in found[chosen.attribute]
    if measure and (labelled := labelled_pictures(config, data, chosen, most)):
        pictures, labels = labelled
        values = classifier.classify(classifier.features(pictures))[chosen.attribute]
        classes = classifier.classes[chosen.attribute]
        estimated = decide(values, classes, threshold).tolist()
        labels = one_spelling(labels, "the labels of the data", classes)
        found[chosen.attribute] = claims(labels, estimated, classes, threshold > 0)
    return found


def labelled_pictures(
    config: Config, data: Samples, chosen: Chosen, most: int
) -> tuple[Pictures, list[str]] | None:
    """Pictures with labels that the classifier was not trained on; None if there are none."""
    if config.data.path in EMBEDDED_SETS:
        stored_set = open_set(config.data.path)
        known = stored_set.attributes("balanced").get(chosen.attribute)
        pictures = stored_set.pictures("balanced")
        split_seed = chosen.classifier.facts.get("split_seed", 0)
        unseen = randomness.halves(len(pictures), split_seed)[1]
        mixed = randomness.epoch_order(len(unseen), config.seed, "evaluate labelled")
        rows = unseen[mixed.numpy()[:most]]
        return (pictures[rows], [known[row] for row in rows]) if known else None
    if not config.data.label_column:
        return None
    labels = read_labels(config.data.path, config.data.label_column, data)
    some = randomness.epoch_order(len(data), config.seed, "evaluate labelled")[:most].tolist()
    return data.pictures(some), [labels[row] for row in some]
