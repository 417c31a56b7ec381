"""Ways to infer the groups, by name. All but ``auto`` are there to compare with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from invdiff.core.discovery.candidates import exact_split
from invdiff.core.discovery.estimators.amortised import amortised
from invdiff.core.discovery.estimators.auto import automatic
from invdiff.core.discovery.estimators.clusters import clusters
from invdiff.core.discovery.estimators.contrast import contrasted
from invdiff.core.discovery.estimators.score_only import (
    LEAST_GAIN,
    main_direction,
    top_share,
    two_components,
)
from invdiff.core.discovery.estimators.semantic import semantic
from invdiff.core.discovery.grouping import Grouping
from invdiff.core.discovery.objective import explained_variance
from invdiff.core.discovery.prompt_contrasts import Contrasts
from invdiff.core.discovery.verdict import BALANCED_WITHIN, Verdict, met
from invdiff.core.groups.memberships import Membership, memberships, off_by, present, within
from invdiff.core.groups.several_groups import SeveralGroups
from invdiff.core.groups.two_groups import GroupModel
from invdiff.engine.discovery.groups import Model, wanted_mix
from invdiff.engine.distributed import randomness as order
from invdiff.engine.settings.config import Config

UNTESTED = float("nan")


@dataclass(frozen=True)
class Evidence:
    """What an estimator may look at.

    ``score`` is the excess at high noise, ``loss_score`` the plain loss there, ``profile`` the
    excess of each level, ``loss`` the plain loss over all levels: means over noise draws, of the
    images ``scored`` alone. ``contrasts`` are the losses there under every prompt, computed when
    asked for. ``reference`` is the authors' score. ``labels`` is None for every estimator but the
    oracle: nothing else ever reads attributes.
    """

    prompt: np.ndarray
    features: Float[np.ndarray, "sample feature"]
    scored: np.ndarray
    score: Float[np.ndarray, " scored"]
    loss_score: Float[np.ndarray, " scored"]
    profile: Float[np.ndarray, "scored level"]
    loss: Float[np.ndarray, " scored"]
    contrasts: Callable[[], Contrasts]
    reference: Float[np.ndarray, " sample"] | None
    labels: tuple[str, ...] | None
    seed: int


def _auto(evidence: Evidence, config: Config) -> Grouping:
    known = (evidence.score, evidence.loss_score, evidence.contrasts)
    seed = order.derive(config.seed, "grouping", evidence.seed)
    return automatic(*known, **_asked(evidence, config), seed=seed)


def _contrast(evidence: Evidence, config: Config) -> Grouping:
    return contrasted(evidence.contrasts, evidence.score, **_asked(evidence, config))


def _semantic(evidence: Evidence, config: Config) -> Grouping:
    seed = order.derive(config.seed, "grouping", evidence.seed)
    return semantic(evidence.score, **_asked(evidence, config), seed=seed)


def _asked(evidence: Evidence, config: Config) -> dict[str, Any]:
    """What all searches in core take besides the scores."""
    return {
        "features": evidence.features,
        "scored": evidence.scored,
        "prompt": evidence.prompt,
        "min_share": config.discover.min_share,
        "false_alarm": config.discover.false_alarm,
        "wanted": config.discover.against_share,
    }


def _profile(evidence: Evidence, config: Config) -> Grouping:
    """Each prompt's profiles along their main direction, and two components of that."""
    least, names = config.discover.min_share, evidence.prompt[evidence.scored]
    member, verdicts = np.zeros(len(names)), {}
    for name, rows in _by_prompt(names):
        values = main_direction(evidence.profile[rows])
        q, gain = two_components(values)
        found = bool(gain >= LEAST_GAIN and q.mean() >= least and _uneven(q.mean(), config))
        note = "" if found else f"nothing to balance: a second component gains {gain:.0f} in BIC"
        explained, share = explained_variance(q, values, least), float(q.mean())
        member[rows] = q
        verdicts[name] = Verdict(found, found, explained, UNTESTED, share, note)
    against, models = _carried(evidence, member)
    verdicts = _of_all(evidence, verdicts)
    return Grouping(against, verdicts, models, "two components of the profile", (), "excess")


def _amortised(evidence: Evidence, config: Config) -> Grouping:
    seed = order.derive(config.seed, "amortised", evidence.seed)
    return amortised(evidence.score, **_asked(evidence, config), seed=seed)


def _cluster(evidence: Evidence, config: Config) -> Grouping:
    seed = order.derive(config.seed, "clusters", evidence.seed)
    section = config.discover
    asked = _asked(evidence, config) | {"wanted": partial(wanted_mix, section)}
    return clusters(evidence.score, **asked, seed=seed, most=section.most_groups)


def _top_loss(evidence: Evidence, config: Config) -> Grouping:
    """The images with the highest plain loss, prompt by prompt, as "Just Train Twice" has them."""
    share, names = config.discover.top_share, evidence.prompt[evidence.scored]
    member, verdicts = top_share(evidence.loss, names, share) * 1.0, {}
    for name, rows in _by_prompt(names):
        explained = explained_variance(member[rows], evidence.loss[rows], 0.0)
        verdicts[name] = Verdict(True, True, explained, UNTESTED, float(member[rows].mean()), "")
    against, models = _carried(evidence, member)
    verdicts = _of_all(evidence, verdicts)
    return Grouping(against, verdicts, models, f"the top {share:.0%} of the loss", (), "loss")


def _carried(evidence: Evidence, member: np.ndarray) -> tuple[np.ndarray, dict[str, GroupModel]]:
    """q_i(1) of all images from that of the scored ones, by a linear model on the features."""
    against, models = np.zeros(len(evidence.prompt)), {}
    against[evidence.scored] = member
    seen = np.zeros(len(against), bool)
    seen[evidence.scored] = True
    for name, rows in _by_prompt(evidence.prompt):
        known, unknown = rows & seen, rows & ~seen
        models[name] = GroupModel.supervised(evidence.features[known], against[known])
        against[unknown] = models[name](evidence.features[unknown])
    return against, models


def _of_all(evidence: Evidence, verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    """``verdicts`` with one for each prompt that was not searched."""
    unsearched = Verdict(False, False, 0.0, UNTESTED, 0.0, "too few images to look for groups")
    return {name: verdicts.get(name, unsearched) for name, _ in _by_prompt(evidence.prompt)}


def _by_prompt(prompt: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
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
    for name, rows in _by_prompt(evidence.prompt):
        counts = np.array([(labels[rows] == label).sum() for label in known])
        order = np.argsort(-counts, kind="stable")
        names[name] = tuple(str(label) for label in known[order])
        for group, label in enumerate(names[name]):
            q[rows & (labels == label), group] = 1.0
    if q.shape[1] == 2:
        return _given(evidence, config, q[:, 1], "labels")
    return replace(_given(evidence, config, q, "labels"), names=names)


def _random(evidence: Evidence, config: Config) -> Grouping:
    draw = np.random.default_rng(order.derive(config.seed, "random groups"))
    return _given(
        evidence, config, (draw.random(len(evidence.prompt)) < 0.2) * 1.0, "random groups"
    )


def _reference(evidence: Evidence, config: Config) -> Grouping:
    """What the authors' code computes: one random level, one noise an image, all prompts at once.

    The distance of the predicted noise to the *clean latent*, and a split of it over the whole
    data with free groups, here at its exact optimum (docs/evidence/results.md).
    """
    assert evidence.reference is not None, "the reference estimator needs its own score"
    against = exact_split(evidence.reference, config.discover.min_share) * 1.0
    return _given(evidence, config, against, "reference")


def _none(evidence: Evidence, config: Config) -> Grouping:
    return _given(evidence, config, np.zeros(len(evidence.prompt)), "no groups")


def _given(evidence: Evidence, config: Config, member: Membership, name: str) -> Grouping:
    """Groups that were not inferred from the score: even or empty ones need no balancing."""
    verdicts, models = {}, {}
    for text, rows in _by_prompt(evidence.prompt):
        models[text] = supervised(evidence.features[rows], member[rows])
        verdicts[text] = _verdict(member[rows], config)
    return Grouping(member, verdicts, models, name, ())


def _verdict(member: Membership, config: Config) -> Verdict:
    """On the groups of one prompt: are there several, in other shares than the wanted ones?"""
    shares, there = memberships(member).mean(0), present(member)
    wanted = within(wanted_mix(config.discover, len(shares)), there)
    several = int(there.sum()) > 1
    uneven = several and bool(abs(off_by(shares, wanted)).max() > BALANCED_WITHIN)
    note = "" if uneven else f"nothing to balance: {met(wanted[there])} or there are none"
    if member.ndim == 1:
        return Verdict(uneven, several, UNTESTED, UNTESTED, float(member.mean()), note)
    rest = float(1 - shares[0])
    return Verdict(uneven, several, UNTESTED, UNTESTED, rest, note, tuple(shares.tolist()))


def supervised(features: np.ndarray, member: Membership) -> Model:
    """The model of groups that are given."""
    kind = GroupModel if member.ndim == 1 else SeveralGroups
    return kind.supervised(features, member)


def _uneven(share: float, config: Config) -> bool:
    """Whether the share of group 1 is far from the wanted one."""
    return abs(share - config.discover.against_share) > BALANCED_WITHIN


Estimator = Callable[[Evidence, Config], Grouping]
ESTIMATORS: dict[str, Estimator] = {
    "auto": _auto,
    "contrast": _contrast,
    "semantic": _semantic,
    "profile": _profile,
    "amortised": _amortised,
    "cluster": _cluster,
    "top_loss": _top_loss,
    "labels": _labels,
    "random": _random,
    "reference": _reference,
    "none": _none,
}


def estimate(evidence: Evidence, config: Config) -> Grouping:
    """The groups by the estimator that the settings name."""
    return ESTIMATORS[config.discover.estimator](evidence, config)
