"""The gap over the strength, estimated twice on the same pictures: without and with a classifier.

Calibration asks the model of the inferred groups alone. Here the pictures that it drew, or would
have drawn at a strength that it did not try, are drawn once more, because their seeds are known,
and the attribute classifier says what it sees in them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from invdiff.core.uncertainty import counted
from invdiff.engine.classifiers.choose import Chosen
from invdiff.engine.classifiers.classify import features_of
from invdiff.engine.classifiers.error_table import ABSTAINED, decide
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.encoding.session import Session
from invdiff.engine.evaluation.metrics import MetricProtocol
from invdiff.engine.sampling.calibrate import drawn_at, estimate_gap
from invdiff.engine.storage.files import read_json, write_json

NOTHING = "The curve over the strength was not drawn: no groups were found to balance."
Counts = dict[str, dict[str, int]]


def strength_curve(
    session: Session, chosen: Chosen, protocol: MetricProtocol
) -> tuple[list[dict[str, Any]], list[str]]:
    """A point for each of ``evaluate.strength_curve``, and why there are none.

    What both say of a strength is kept until the stage is done again, so an interrupted one goes on
    with the next strength.
    """
    prompts = session.results.discovery.found
    trained = not session.results.training.skipped
    if not prompts or not trained:
        return [], [NOTHING]
    points = []
    for strength in session.config.evaluate.strength_curve:
        path = session.path / "strength-curve" / f"{strength:g}.json"
        if not path.is_file():
            estimated = estimate_gap(session, prompts, strength)
            counts = seen_at(session, prompts, strength, chosen, protocol)
            write_json(path, {"estimated": estimated, "counts": counts})
        known = read_json(path)
        points.append(point(known["estimated"], known["counts"], protocol))
    return points, []


def seen_at(
    session: Session, prompts: list[str], strength: float, chosen: Chosen, protocol: MetricProtocol
) -> Counts:
    """Prompt -> class -> how many of the calibration's pictures are in it."""
    config, classifier = session.config, chosen.classifier
    work, shards = drawn_at(session, prompts, strength)
    threshold = config.evaluate.abstain_below
    seen: dict[str, list[np.ndarray]] = {name: [] for name in prompts}
    title = f"drawing, strength {strength:g}"
    drawn = run_shards(work, shards, processes=session.processes, title=title)
    for (name, *_), pictures in drawn:
        features = features_of(classifier, pictures.__getitem__, len(pictures), name)
        values = classifier.classify(features)[protocol.attribute]
        seen[name].append(decide(values, protocol.classes, threshold))
    return {
        name: {
            klass: int((np.concatenate(found) == klass).sum())
            for klass in (*protocol.classes, ABSTAINED)
        }
        for name, found in seen.items()
    }


def point(
    estimated: Mapping[str, Any], counts: Mapping[str, Mapping[str, int]], protocol: MetricProtocol
) -> dict[str, Any]:
    """One strength: what the inferred groups' model estimates, and what the classifier does.

    For two classes Bias is the gap from even shares, as the estimated one is where even shares are
    wanted.
    """
    table = np.array([[counts[name][klass] for klass in protocol.classes] for name in counts])
    known = counted.bias_of(table, protocol.drawing)
    classified = {key: known[key] for key in ("value", "low", "high", "parity_value", "images")}
    return {
        "strength": estimated["strength"],
        "estimated": {key: estimated[key] for key in ("gap", "low", "high", "images", "shares")},
        "classified": classified
        | {"counts": {name: dict(by_class) for name, by_class in counts.items()}},
    }
