"""Where the labels of a comparison come from: columns of the pictures, or a classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.data.gallery import Gallery
from invdiff.data.readers.listing import one_spelling
from invdiff.data.samples import Pictures
from invdiff.engine.classifiers.choose import Chosen, classifier_named
from invdiff.engine.classifiers.classify import resized_for
from invdiff.engine.classifiers.error_table import decide
from invdiff.engine.comparison.features import each
from invdiff.errors import ArgumentError, DataError

CLAIMS = ("accuracy", "held_out", "confusion")


@dataclass(frozen=True)
class Attribute:
    """An attribute of both sets: one label of each picture, and who made them.

    ``claims`` has the ``accuracy``, ``held_out`` and ``confusion`` of the ``classifier`` if
    somebody measured them; labels that came with the pictures have neither. ``is_prompt``: its
    classes are prompts, nothing to balance.
    """

    name: str
    classes: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    made_by: str
    claims: Mapping[str, Any]
    is_prompt: bool = False
    classifier: str = ""

    @property
    def confusion(self) -> NDArray[np.int64] | None:
        """Held-out pictures by true (row) and estimated class; None where nobody measured it."""
        counts = self.claims.get("confusion")
        return None if counts is None else np.asarray(counts)

    def claimed(self) -> dict[str, Any]:
        """Who made the labels and how often they are wrong."""
        return {"classes": list(self.classes), "made_by": self.made_by} | dict(self.claims)


def attributes_of(
    classifier: str,
    columns: Sequence[str],
    galleries: Mapping[str, Gallery],
    attribute: str = "",
    classes: Sequence[str] = (),
) -> list[Attribute]:
    """The attributes of sets "a" and "b": labels that are there, and estimates of all others.

    ``attribute`` and ``classes`` (lines "class = text") are for a classifier of others, which
    names neither itself.

    Raises:
        DataError: a column is missing, or has one class only.
        ModelError: the file is no classifier.
        ArgumentError: a column is named twice.
    """
    if len(set(columns)) < len(columns):
        rule, given = "must name each column once", ",".join(columns)
        raise ArgumentError("labels", rule, repr(given), "leave out the second")
    found = [_column(name, galleries) for name in columns]
    if classifier:
        chosen = classifier_named(classifier, attribute or "attribute", classes, attribute)
        estimated = _estimated(classifier, chosen, galleries)
        found += [one for one in estimated if one.name not in columns]
    return found


def _column(name: str, galleries: Mapping[str, Gallery]) -> Attribute:
    first, second = (galleries[of].column(name) for of in ("a", "b"))
    both = tuple(one_spelling([*first, *second], f"column {name!r} of both folders"))
    labels = {"a": both[: len(first)], "b": both[len(first) :]}
    classes = tuple(sorted(set(both)))
    if len(classes) < 2:
        raise DataError(
            f"column {name!r} has one value only, {classes[0]!r}: there is nothing to balance"
        )
    return Attribute(name, classes, labels, "labels that came with the pictures", {})


def _estimated(
    classifier: str, chosen: Chosen, galleries: Mapping[str, Gallery]
) -> list[Attribute]:
    model, made = chosen.classifier, f"the classifier {classifier} (SHA-256 {chosen.sha256})"

    def features(pictures: Pictures) -> NDArray[np.float32]:
        return model.features(resized_for(pictures, model))

    seen = {of: model.classify(each(galleries[of], features, model.side)) for of in ("a", "b")}
    found = []
    for name, classes in model.classes.items():
        known = model.facts.get("attributes", {}).get(name, {})
        found.append(
            Attribute(
                name=name,
                classes=classes,
                labels={of: tuple(decide(p[name], classes).tolist()) for of, p in seen.items()},
                made_by=f"estimated by {made}",
                claims={key: known[key] for key in CLAIMS if key in known},
                is_prompt=name == "prompt",
                classifier=chosen.name,
            )
        )
    return found
