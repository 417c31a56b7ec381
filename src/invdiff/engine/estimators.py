"""Ways to infer the groups, by name. All but ``semantic`` are there to compare with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from invdiff.core.candidates import exact_split
from invdiff.core.grouping import Grouping, semantic
from invdiff.core.settle import GroupModel
from invdiff.core.verdict import BALANCED_WITHIN, Verdict
from invdiff.engine import order
from invdiff.engine.config import Config


@dataclass(frozen=True)
class Evidence:
    """What an estimator may look at.

    ``labels`` is None for every estimator but the oracle: nothing else ever reads attributes.
    """

    prompt: np.ndarray
    features: Float[np.ndarray, "sample feature"]
    scored: np.ndarray
    score: Float[np.ndarray, " scored"]
    reference: Float[np.ndarray, " sample"] | None
    labels: tuple[str, ...] | None
    seed: int


def _semantic(evidence: Evidence, config: Config) -> Grouping:
    return semantic(
        evidence.score,
        evidence.features,
        evidence.scored,
        evidence.prompt,
        min_share=config.discover.min_share,
        false_alarm=config.discover.false_alarm,
        seed=order.derive(config.seed, "grouping", evidence.seed),
    )


def _labels(evidence: Evidence, config: Config) -> Grouping:
    """The oracle: group 1 is everything but the most frequent label of the prompt."""
    assert evidence.labels is not None, "the oracle needs labels"
    labels = np.array(evidence.labels)
    against = np.zeros(len(labels))
    for name in np.unique(evidence.prompt):
        rows = evidence.prompt == name
        values, counts = np.unique(labels[rows], return_counts=True)
        against[rows] = labels[rows] != values[counts.argmax()]
    return _given(evidence, against, "labels")


def _random(evidence: Evidence, config: Config) -> Grouping:
    draw = np.random.default_rng(order.derive(config.seed, "random groups"))
    return _given(evidence, (draw.random(len(evidence.prompt)) < 0.2) * 1.0, "random groups")


def _reference(evidence: Evidence, config: Config) -> Grouping:
    """What the authors' code computes: one random level, one noise an image, all prompts at once.

    The distance of the predicted noise to the *clean latent*, and a split of it over the whole
    data with free groups, here at its exact optimum (docs/method.md).
    """
    assert evidence.reference is not None, "the reference estimator needs its own score"
    against = exact_split(evidence.reference, config.discover.min_share) * 1.0
    return _given(evidence, against, "reference")


def _none(evidence: Evidence, config: Config) -> Grouping:
    return _given(evidence, np.zeros(len(evidence.prompt)), "no groups")


def _given(evidence: Evidence, against: np.ndarray, name: str) -> Grouping:
    """Groups that were not inferred from the score: even or empty ones need no balancing."""
    verdicts, models = {}, {}
    for text in np.unique(evidence.prompt):
        rows = evidence.prompt == text
        share = float(against[rows].mean())
        uneven = 0 < share < 1 and abs(share - 0.5) > BALANCED_WITHIN
        note = "" if uneven else "nothing to balance: the groups are even already or there are none"
        nothing = float("nan")
        verdicts[str(text)] = Verdict(uneven, 0 < share < 1, nothing, nothing, share, note)
        models[str(text)] = GroupModel.supervised(evidence.features[rows], against[rows])
    return Grouping(against, verdicts, models, name, ())


Estimator = Callable[[Evidence, Config], Grouping]
ESTIMATORS: dict[str, Estimator] = {
    "semantic": _semantic,
    "labels": _labels,
    "random": _random,
    "reference": _reference,
    "none": _none,
}


def estimate(evidence: Evidence, config: Config) -> Grouping:
    """The groups by the estimator that the settings name."""
    return ESTIMATORS[config.discover.estimator](evidence, config)
