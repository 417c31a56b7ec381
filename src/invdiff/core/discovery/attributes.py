"""Attributes: sources of a skew with what is known of each, ranked, and how certain that is.

What is found in all pictures is looked for again in two halves of them. Each half's own source says
who is in which group of the other half, and there it is tested, so that nothing is tested on the
pictures that it was chosen on.
"""

from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit, logit

from invdiff.core.discovery.evidence import Carrier, Contrasts, CostEvidence
from invdiff.core.discovery.mixture import RAREST, fit_two_gaussians
from invdiff.core.discovery.objective import Measures
from invdiff.core.discovery.sources import NEAR, Source, find_sources
from invdiff.core.groups.features import FeatureSpace
from invdiff.core.groups.two_groups import GroupModel

MIXED = 0.02
"""Share of the rarer value from which on a prompt has both."""
TIED = 0.01
"""Largest p-value of a tie; whether there is anything at all goes by the caller's rate."""
MOSTLY = 0.5
"""Share of a shift that must lie along the log-odds: most of it."""
CLEAR = 0.8
"""Share of the pictures that two halves of the data, searched alone, put into the same group."""


@dataclass(frozen=True)
class InferredAttribute:
    """Two values that pictures have, with memberships, shares, and how sure that is.

    ``q`` is the probability of value 1, (n,). ``share`` is its share under each of the ``prompts``.
    ``measures`` say how strongly it is tied to the prompts (mutual information in nats), how much
    of what pictures cost under them it explains beside the other attributes, and how well its shift
    agrees with its shares. ``gap`` is the distance of the values in the features, in sums of their
    standard deviations, and ``negentropy`` how clearly these are two groups, in nats a picture.
    ``stability`` is the least agreement of two halves of the data with each other and with the
    whole, 0.5 by chance. ``p_value`` is that of no shift of the costs, multiplied by the number of
    attributes. ``tied``: its shares differ between the prompts that have both values, and it shifts
    the costs mostly as these shares ask. ``models`` give the same for other pictures of a prompt,
    from raw features.
    """

    id: str
    origin: str
    prompts: tuple[str, ...]
    q: Float[np.ndarray, " picture"]
    share: Float[np.ndarray, " prompt"]
    measures: Measures
    gap: float
    negentropy: float
    stability: float
    p_value: float
    tied: bool
    models: dict[str, GroupModel]

    @property
    def clear(self) -> bool:
        """Whether both halves of the data show the same groups."""
        return self.stability >= CLEAR

    def certain(self, false_alarm: float) -> bool:
        """Whether it is clear, and chance gives as much less often than ``false_alarm``."""
        return self.clear and self.p_value <= false_alarm

    def verdict(self, false_alarm: float) -> str:
        """``clear``, or ``unclear``: look at the pictures."""
        return "clear" if self.certain(false_alarm) else "unclear"


def find_attributes(
    features: Float[np.ndarray, "picture feature"],
    prompt: np.ndarray,
    contrasts: Contrasts,
    seed: int,
) -> list[InferredAttribute]:
    """The attributes of the pictures, the most tied first: by the max step's objective.

    ``contrasts`` are losses under several prompts, or under one: each picture's own. Then nothing
    is tied, and the one that the features show most clearly is first.
    """
    space = FeatureSpace.fit(features, prompt)
    evidence = CostEvidence.of(space(features, prompt), prompt, contrasts)
    if min(evidence.components.shape) == 0 or evidence.total < 1e-20:
        return []
    found = find_sources(evidence)
    halves = _halves(evidence, seed)
    everywhere = Carrier(evidence)
    others = [
        [_spread(one, everywhere) for one in find_sources(evidence.part(half))] for half in halves
    ]
    made = []
    for source in found:
        models = _models(source, evidence, space)
        q = np.empty(len(prompt))
        for name, model in models.items():
            q[prompt == name] = model(features[prompt == name])
        made.append(_attribute(source, q, models, evidence, halves, others, len(found)))
    if evidence.several:
        return sorted(made, key=lambda one: -one.measures.objective)
    return made


def _halves(evidence: CostEvidence, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the pictures of each prompt, of those with costs and of those without."""
    random = np.random.default_rng(seed % 2**63)
    known = np.zeros(len(evidence.prompt), int)
    known[evidence.rows] = 1
    shuffled = random.permutation(len(known))
    ordered = shuffled[np.lexsort((known[shuffled], evidence.prompt[shuffled]))]
    return np.sort(ordered[::2]), np.sort(ordered[1::2])


def _spread(source: Source, carrier: Carrier) -> np.ndarray:
    """Memberships of all pictures by a source of some of them."""
    evidence, known = carrier.evidence, source.partition
    values = carrier.design @ known.weight
    q = known.groups.posterior(values, evidence.prompt)
    return fit_two_gaussians(values, evidence.prompt, len(evidence.names), q)[1]


def _attribute(
    source: Source,
    q: Float[np.ndarray, " picture"],
    models: dict[str, GroupModel],
    evidence: CostEvidence,
    halves: tuple[np.ndarray, np.ndarray],
    others: list[list[np.ndarray]],
    tests: int,
) -> InferredAttribute:
    nearest = [one for found in others if (one := _nearest(source, found)) is not None]
    p_value = tied = 1.0
    stability = 0.0
    if len(nearest) == len(halves):
        pairs_of = combinations((source.q, *nearest), 2)
        stability = min(_agreement(one, other) for one, other in pairs_of)
        both = mixed(evidence.shares(q))
        there = zip(nearest, halves, halves[::-1], strict=True)
        # each half's source, on the other half; twice the mean of two p-values, however they
        # depend on each other, is one (Rüschendorf 1982)
        p_values = [_tests(one, evidence, own, other, both) for one, own, other in there]
        shift, tie = (min(1.0, tests * sum(pair)) for pair in zip(*p_values, strict=True))
        p_value, tied = shift, max(shift, tie)
    return InferredAttribute(
        _name(source, evidence),
        source.name,
        evidence.names,
        q,
        evidence.shares(q),
        source.measures,
        source.partition.groups.gap,
        source.negentropy,
        stability,
        p_value,
        evidence.several and tied < TIED and source.measures.along > MOSTLY,
        models,
    )


def _nearest(source: Source, found: list[np.ndarray]) -> np.ndarray | None:
    """Memberships of the most similar source of a half, its values the same way round.

    None if all are about something else.
    """
    best, likeness = None, NEAR
    for q in found:
        correlation = float(np.corrcoef(q, source.q)[0, 1]) if np.ptp(q) > 0 else 0.0
        if abs(correlation) > likeness:
            best, likeness = (q if correlation > 0 else 1 - q), abs(correlation)
    return best


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the pictures in the same group, both values of the data weighing alike.

    A rare value weighs as much as a frequent one: else all in one group would agree.
    """
    same = (one > 0.5) == (other > 0.5)
    first = (one + other) / 2
    shares = [(same * side).sum() / max(1e-9, side.sum()) for side in (first, 1 - first)]
    return float(np.mean(shares))


def mixed(share: Float[np.ndarray, " prompt"], least: float = MIXED) -> np.ndarray:
    """The prompts that have both values. What all pictures of a prompt have is its content."""
    return (share >= least) & (share <= 1 - least)


def _tests(
    q: Float[np.ndarray, " picture"],
    evidence: CostEvidence,
    own: np.ndarray,
    other: np.ndarray,
    both: Bool[np.ndarray, " prompt"],
) -> tuple[float, float]:
    """p-values on the ``other`` half: of no shift of the costs, and of no tie to the prompts.

    The shift is expected where the ``own`` half has it. A tie is both unlike shares among the
    prompts with ``both`` values and a shift along minus their log-odds, at every noise level.
    """
    mine, part = evidence.part(own), evidence.part(other)
    there = mine.within(q[own][mine.rows])
    inside = part.within(q[other][part.rows])
    shift = _correlated(inside, part.flat @ (there @ mine.flat))
    if not evidence.several:
        return shift, 1.0
    counts = np.bincount(part.prompt, minlength=len(part.names))
    share = part.shares(q[other])
    equal = shares_differ(share, counts * both)
    along = np.einsum("rcl,c->rl", part.costs, part.log_odds(share))
    return shift, max(equal, *(_correlated(inside, level) for level in along.T))


def _correlated(one: np.ndarray, other: np.ndarray) -> float:
    """p-value of no positive correlation; 1 where there is nothing to correlate."""
    if one.std() < 1e-9 or other.std() < 1e-12 or len(one) < 5:
        return 1.0
    return float(stats.pearsonr(one, other, alternative="greater").pvalue)


def shares_differ(share: Float[np.ndarray, " prompt"], count: np.ndarray) -> float:
    """p-value of equal shares under all prompts with pictures (likelihood-ratio test)."""
    there = count > 0
    if there.sum() < 2:
        return 1.0
    ones = (share * count)[there]
    table = np.stack([ones, count[there] - ones]) + 0.5
    return float(stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").pvalue)


def _name(source: Source, evidence: CostEvidence) -> str:
    """A short name that a second run gives to the same groups: of the pictures on its ends."""
    ends = np.argsort(source.partition.values, kind="stable")
    marks = np.sort(np.concatenate([ends[:3], ends[-3:]]))
    return sha256(",".join(map(str, marks)).encode()).hexdigest()[:6]


def _models(source: Source, evidence: CostEvidence, space: FeatureSpace) -> dict[str, GroupModel]:
    """A model for each prompt, from raw features: logistic along the direction."""
    share = source.partition.groups.share.clip(RAREST, 1 - RAREST)
    start, slope = _logistic(source.partition.values, source.q, logit(share)[evidence.prompt])
    width = evidence.components.shape[1]
    direction = space.axes @ source.partition.weight[:width] / space.scale
    models = {}
    for k, name in enumerate(evidence.names):
        offset = source.partition.weight[width + k] - float(space.means[name] @ direction)
        ratio = (start + slope * offset, slope, 0.0)
        models[name] = GroupModel(direction, ratio, float(logit(share[k])))
    return models


def _logistic(
    values: Float[np.ndarray, " picture"],
    q: Float[np.ndarray, " picture"],
    prior: Float[np.ndarray, " picture"],
) -> tuple[float, float]:
    """Start and slope of log p(value | 1) / p(value | 0) that give the memberships best."""

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        odds = at[0] + at[1] * values + prior
        value = np.logaddexp(0, odds) - q * odds
        slope = expit(odds) - q
        return float(value.mean()) + 1e-4 * at[1] ** 2, np.array(
            [slope.mean(), (slope * values).mean() + 2e-4 * at[1]]
        )

    low, high = ((1 - q) @ values / (1 - q).sum(), q @ values / q.sum())
    slope = 4 / (high - low + 1e-12)
    found = minimize(loss, np.array([-slope * (low + high) / 2, slope]), jac=True).x
    return float(found[0]), float(found[1])
