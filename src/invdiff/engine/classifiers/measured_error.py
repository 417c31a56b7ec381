"""How often the classifier of a run is wrong: from its header, or measured now."""

from typing import Any

from invdiff.data.readers.listing import one_spelling
from invdiff.data.samples import Pictures, Samples
from invdiff.data.sets.stored import open_set
from invdiff.data.sources import read_labels
from invdiff.engine.classifiers.choose import Chosen, effective
from invdiff.engine.classifiers.error_table import claims, decide, stored
from invdiff.engine.distributed import randomness
from invdiff.engine.distributed.randomness import halves
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.settings.config import Config


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
    if "confusion" not in found[chosen.attribute] and foreign:
        known_pictures = labelled_pictures(config, data, chosen, most)
        if known_pictures:
            pictures, labels = known_pictures
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
        unseen = halves(len(pictures), split_seed)[1]
        mixed = randomness.epoch_order(len(unseen), config.seed, "evaluate labelled")
        rows = unseen[mixed.numpy()[:most]]
        return (pictures[rows], [known[row] for row in rows]) if known else None
    if not config.data.label_column:
        return None
    labels = read_labels(config.data.path, config.data.label_column, data)
    some = randomness.epoch_order(len(data), config.seed, "evaluate labelled")[:most].tolist()
    return data.pictures(some), [labels[row] for row in some]
