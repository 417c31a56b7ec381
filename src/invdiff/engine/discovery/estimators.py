"""Ways to come by the groups, by name: the default, the oracle, and those of studies."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from invdiff.core.discovery.evidence import Contrasts
from invdiff.core.discovery.grouping import Grouping, infer_groups
from invdiff.core.discovery.verdict import Verdict, is_uneven, met
from invdiff.core.groups.memberships import Membership, memberships, present, within
from invdiff.core.groups.several_groups import MultiGroupModel
from invdiff.core.groups.two_groups import GroupModel
from invdiff.engine.discovery.groups import Model, wanted_mix
from invdiff.engine.discovery.scoring import Passes
from invdiff.engine.distributed import randomness as order
from invdiff.engine.settings.schema import Config

UNTESTED = float("nan")


@dataclass(frozen=True)
class Evidence:
    """What an estimator may look at.

    ``score`` is the excess at high noise, ``loss_score`` the plain loss there, ``loss`` that over
    all levels: means over noise draws, of the images ``scored`` alone. ``contrasts`` are the losses
    at high noise under every prompt, computed when asked for; ``passes`` are there to make others.
    ``labels`` is None for every estimator but the oracle: nothing else ever reads attributes.
    """

    prompt: np.ndarray
    features: Float[np.ndarray, "sample feature"]
    scored: np.ndarray
    score: Float[np.ndarray, " scored"]
    loss_score: Float[np.ndarray, " scored"]
    loss: Float[np.ndarray, " scored"]
    contrasts: Callable[[], Contrasts]
    passes: Passes
    labels: tuple[str, ...] | None


def _auto(evidence: Evidence, config: Config) -> Grouping:
    return infer_groups(
        evidence.score,
        evidence.loss_score,
        evidence.contrasts,
        evidence.features,
        evidence.scored,
        evidence.prompt,
        min_share=config.study.min_share,
        false_alarm=config.discover.false_positive_rate,
        wanted=config.discover.wanted_share,
        most=config.discover.attributes,
        seed=order.derive(config.seed, "grouping"),
    )


def by_prompt(prompt: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each prompt with a mask of its images."""
    for name in np.unique(prompt):
        yield str(name), prompt == name


def _labels(evidence: Evidence, config: Config) -> Grouping:
    """The oracle: each label is a group, numbered from the most frequent of the prompt on.

    Equally frequent ones go by name; those that a prompt lacks come last.
    """
    assert evidence.labels is not None, "the oracle needs labels"
    labels = np.array(evidence.labels)
    known = np.unique(labels)
    q = np.zeros((len(labels), max(2, len(known))))
    names = {}
    for name, rows in by_prompt(evidence.prompt):
        counts = np.array([(labels[rows] == label).sum() for label in known])
        order = np.argsort(-counts, kind="stable")
        names[name] = tuple(str(label) for label in known[order])
        for group, label in enumerate(names[name]):
            q[rows & (labels == label), group] = 1.0
    if q.shape[1] == 2:
        return given(evidence, config, q[:, 1], "labels")
    return replace(given(evidence, config, q, "labels"), names=names)


def given(evidence: Evidence, config: Config, member: Membership, name: str) -> Grouping:
    """Groups that were not inferred from the score: even or empty ones need no balancing."""
    verdicts, models = {}, {}
    for text, rows in by_prompt(evidence.prompt):
        models[text] = supervised(evidence.features[rows], member[rows])
        verdicts[text] = _verdict(member[rows], config)
    return Grouping(member, verdicts, models, name, ())


def _verdict(member: Membership, config: Config) -> Verdict:
    """On the groups of one prompt: are there several, in other shares than the wanted ones?"""
    shares, there = memberships(member).mean(0), present(member)
    wanted = within(wanted_mix(config.discover, len(shares)), there)
    several = int(there.sum()) > 1
    uneven = several and is_uneven(shares, wanted)
    note = "" if uneven else f"nothing to balance: {met(wanted[there])} or there are none"
    if member.ndim == 1:
        return Verdict(uneven, several, UNTESTED, UNTESTED, float(member.mean()), note)
    rest = float(1 - shares[0])
    return Verdict(uneven, several, UNTESTED, UNTESTED, rest, note, tuple(shares.tolist()))


def supervised(features: np.ndarray, member: Membership) -> Model:
    """The model of groups that are given."""
    kind = GroupModel if member.ndim == 1 else MultiGroupModel
    return kind.supervised(features, member)


Estimator = Callable[[Evidence, Config], Grouping]
ESTIMATORS: dict[str, Estimator] = {
    "auto": _auto,
    "labels": _labels,
}
"""Estimator by name; those that exist to be compared with register themselves."""


def estimate_groups(evidence: Evidence, config: Config) -> Grouping:
    """The groups by the estimator that the settings name."""
    return ESTIMATORS[config.estimator](evidence, config)
