"""Estimators that exist to be compared with."""

import numpy as np
from jaxtyping import Bool, Float

from invdiff.core.discovery.grouping import Grouping
from invdiff.core.discovery.verdict import Verdict, explained_variance
from invdiff.core.groups.two_groups import GroupModel
from invdiff.engine.discovery.estimators import (
    UNTESTED,
    Estimator,
    Evidence,
    by_prompt,
    given,
)
from invdiff.engine.distributed import randomness
from invdiff.engine.settings.schema import Config
from invdiff.studies.comparison.authors_score import authors_score

TOP_SHARE = 0.2  # of a prompt's images that top_loss takes
RANDOM_SHARE = 0.2


def _top_loss(evidence: Evidence, config: Config) -> Grouping:
    """The images with the highest plain loss, prompt by prompt, as "Just Train Twice" has them."""
    names = evidence.prompt[evidence.scored]
    member, verdicts = top_share(evidence.loss, names, TOP_SHARE) * 1.0, {}
    for name, rows in by_prompt(names):
        explained = explained_variance(member[rows], evidence.loss[rows])
        verdicts[name] = Verdict(True, True, explained, UNTESTED, float(member[rows].mean()), "")
    against, models = _carried(evidence, member)
    unsearched = Verdict(False, False, 0.0, UNTESTED, 0.0, "too few images to look for groups")
    every = {name: verdicts.get(name, unsearched) for name, _ in by_prompt(evidence.prompt)}
    return Grouping(against, every, models, f"the top {TOP_SHARE:.0%} of the loss", (), "loss")


def top_share(
    loss: Float[np.ndarray, " sample"], prompt: np.ndarray, share: float
) -> Bool[np.ndarray, " sample"]:
    """The ``share`` of each prompt's images with the highest loss.

    "Just Train Twice" (Liu et al. 2021) takes the training errors of a classifier; a denoiser has
    no errors, and this is the nearest that it has.
    """
    member = np.zeros(len(loss), bool)
    for name in np.unique(prompt):
        rows = np.flatnonzero(prompt == name)
        count = max(1, round(share * len(rows)))
        member[rows[np.argsort(-loss[rows], kind="stable")[:count]]] = True
    return member


def _carried(evidence: Evidence, member: np.ndarray) -> tuple[np.ndarray, dict[str, GroupModel]]:
    """q_i(1) of all images from that of the scored ones, by a linear model on the features."""
    against, models = np.zeros(len(evidence.prompt)), {}
    against[evidence.scored] = member
    seen = np.zeros(len(against), bool)
    seen[evidence.scored] = True
    for name, rows in by_prompt(evidence.prompt):
        known, unknown = rows & seen, rows & ~seen
        models[name] = GroupModel.supervised(evidence.features[known], against[known])
        against[unknown] = models[name](evidence.features[unknown])
    return against, models


def _random(evidence: Evidence, config: Config) -> Grouping:
    draw = np.random.default_rng(randomness.derive(config.seed, "random groups"))
    member = (draw.random(len(evidence.prompt)) < RANDOM_SHARE) * 1.0
    return given(evidence, config, member, "random groups")


def _reference(evidence: Evidence, config: Config) -> Grouping:
    """What the authors' code computes: one random level, one noise an image, all prompts at once.

    The distance of the predicted noise to the *clean latent*, and a split of it over the whole
    data with free groups, here at its exact optimum.
    """
    score = authors_score(evidence.passes, np.arange(len(evidence.prompt)))
    against = exact_split(score, config.study.min_share) * 1.0
    return given(evidence, config, against, "reference")


def exact_split(
    score: Float[np.ndarray, " sample"], min_share: float
) -> Bool[np.ndarray, " sample"]:
    """The split of the sorted scores with the largest variance between its sides.

    This is the exact optimum of the max step with free groups (two of them), which the authors'
    code approaches with 500 steps of Adam.
    """
    ordered = np.sort(score)
    count = len(ordered)
    sizes = np.arange(1, count)
    below = np.cumsum(ordered)[:-1] / sizes
    above = (ordered.sum() - np.cumsum(ordered)[:-1]) / (count - sizes)
    between = sizes * (count - sizes) * (above - below) ** 2
    allowed = (sizes >= min_share * count) & (sizes <= (1 - min_share) * count)
    cut = int(np.where(allowed, between, -1.0).argmax())
    return score > ordered[cut]


def _none(evidence: Evidence, config: Config) -> Grouping:
    return given(evidence, config, np.zeros(len(evidence.prompt)), "no groups")


COMPARED: dict[str, Estimator] = {
    "top_loss": _top_loss,
    "random": _random,
    "reference": _reference,
    "none": _none,
}
