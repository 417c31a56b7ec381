"""Sources of the costs, one after another: where to look, what to settle on, what to take out.

A source is a way to split the pictures in two that the features show with a gap and that shifts
what pictures cost. Whether it is tied to the prompts is a property, not a condition: what is not
tied is taken out as well, or its rest mixes with what is (docs/concepts/how-groups-are-found.md).
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import stats
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from invdiff.core.discovery.evidence import Carrier, CostEvidence
from invdiff.core.discovery.mixture import RAREST, TwoGaussians, fit_two_gaussians
from invdiff.core.discovery.objective import Measures, ascend, measure_memberships
from invdiff.core.groups.features import centre_within_prompts

MOST = 6
SEARCHED = 3000
"""Pictures that the search looks at; the sources that it finds are refined on all."""
UPHILL = 3  # leading components that the max step starts from
LEADING = 4  # leading components that are candidates themselves
FEATURES = 10  # leading components of the features that are unmixed where costs are few
ROUNDS = 4
STILL = 0.9998  # correlation of a direction with the one before
SAME = 0.95  # correlation of memberships that are one candidate
KNOWN = 0.8  # correlation with a source that was found
WIDEST = 8.0  # gaps count up to here: beyond it nobody is misplaced
LEAST_EXPLAINED = 0.02
FEWEST = 5
MIXED = 0.02  # share of the rarer value from which on a prompt has both
HEAVIEST = 25  # weight of a picture, in medians, however rare its group
SWEEPS = 1
NEAR = 0.5  # correlation of memberships that are about the same source


@dataclass(frozen=True)
class Source:
    """Two groups of pictures: the values along a direction of the features, and memberships.

    ``weight`` makes ``values`` of components and prompt columns; of the pictures that it was fitted
    on the values are those of fits that had not seen them.
    """

    name: str
    values: Float[np.ndarray, " picture"]
    q: Float[np.ndarray, " picture"]
    groups: TwoGaussians
    weight: Float[np.ndarray, " column"]
    measures: Measures
    penalty: float
    by_objective: bool = False

    @property
    def objective(self) -> float:
        """That of the max step."""
        return self.measures.objective

    @property
    def mixed(self) -> int:
        """How many prompts have both values."""
        share = self.groups.share
        return int(((share >= MIXED) & (share <= 1 - MIXED)).sum())

    @property
    def clearness(self) -> float:
        """Explained share times gap: what sources are taken out by."""
        return self.measures.explained * min(self.groups.gap, WIDEST)

    @property
    def separation(self) -> float:
        """Explained share times squared gap, which is Fisher's ratio.

        What is explained says less where the costs compare no prompts: all that makes a picture
        hard to denoise is in them, and most of that comes in degrees.
        """
        return self.measures.explained * min(self.groups.gap, WIDEST) ** 2


def find_sources(evidence: CostEvidence, most: int = MOST) -> list[Source]:
    """The sources in the order in which they were taken out."""
    seen = _subset(evidence)
    part = evidence.part(seen) if len(seen) < len(evidence.prompt) else evidence
    carrier, found = Carrier(part), list[Source]()
    while len(found) < most:
        best = _next(carrier, found)
        if best is None:
            break
        found.append(best)
    for _ in range(SWEEPS):
        for k, source in enumerate(found):
            found[k] = _again(carrier, source, found[:k] + found[k + 1 :])
    return found if part is evidence else _on_all(evidence, found)


def _again(carrier: Carrier, source: Source, others: list[Source]) -> Source:
    """The source, or a better one nearby, now that all others are known."""
    costs = left(carrier.evidence, others)
    here = replace(source, measures=measure_memberships(carrier.evidence, source.q, costs))
    starts = [source.values]
    if source.by_objective:
        starts.append(ascend(carrier.evidence, _carried(carrier, costs), source.values)[1])
    found = [refine(carrier, values, source.name, costs, source.by_objective) for values in starts]
    near = [one for one in found if one is not None and _alike(one, source) > NEAR]
    return max([here, *near], key=lambda one: one.clearness)


def _on_all(evidence: CostEvidence, found: list[Source]) -> list[Source]:
    """The sources of a part, taught to all pictures once."""
    carrier = Carrier(evidence)
    spread = []
    for source in found:
        values = carrier.design @ source.weight
        q = source.groups.posterior(values, evidence.prompt)
        groups, q = fit_two_gaussians(values, evidence.prompt, len(evidence.names), q)
        values, weight = taught(carrier, q, groups, source.penalty)
        groups, q = fit_two_gaussians(values, evidence.prompt, len(evidence.names), q)
        spread.append(replace(source, values=values, q=q, groups=groups, weight=weight))
    result = []
    for k, source in enumerate(spread):
        costs = left(evidence, spread[:k] + spread[k + 1 :])
        result.append(replace(source, measures=measure_memberships(evidence, source.q, costs)))
    return result


def _subset(evidence: CostEvidence) -> np.ndarray:
    """The pictures whose costs are known, and others until there are enough."""
    rest = np.setdiff1d(np.arange(len(evidence.prompt)), evidence.rows)
    more = np.random.default_rng(5).permutation(rest)[: max(0, SEARCHED - len(evidence.rows))]
    return np.sort(np.concatenate([evidence.rows, more]))


def _next(carrier: Carrier, found: list[Source]) -> Source | None:
    """The source to take out next; None if nothing is left that explains enough.

    The one whose objective is largest, or the clearest if that is another: what is clear and not
    tied to the prompts is taken out as well, or it mixes with what is. A look that is merely easy
    to see is often near the attribute behind it, so of two that are alike the objective decides;
    and what fewer prompts have both values of is content of these.
    """
    evidence = carrier.evidence
    costs, known = left(evidence, found), list[Source]()
    carried = carrier(costs, carrier.penalty, rows=evidence.rows)[0]
    if foretold(carried[evidence.rows], costs) <= 0:
        return None
    carried = centre_within_prompts(carried, evidence.prompt)
    for name, values, by_objective in candidates(evidence, carried):
        source = refine(carrier, values, name, costs, by_objective)
        if source is None or source.measures.explained < LEAST_EXPLAINED:
            continue
        if all(_alike(source, one) < KNOWN for one in found) and all(
            _alike(source, one) < SAME for one in known
        ):
            known.append(source)
    if not known:
        return None
    if not evidence.several:
        return max(known, key=lambda source: source.separation)
    clearest = max(known, key=lambda source: source.clearness)
    best = max(known, key=lambda source: source.objective)
    other = _alike(best, clearest) < NEAR and clearest.mixed >= best.mixed
    return clearest if other else best


def shares_differ(share: Float[np.ndarray, " prompt"], count: np.ndarray) -> float:
    """p-value of equal shares under all prompts with pictures (likelihood-ratio test)."""
    there = count > 0
    ones = (share * count)[there]
    table = np.stack([ones, count[there] - ones]) + 0.5
    return float(stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").pvalue)


def _alike(one: Source, other: Source) -> float:
    return abs(float(np.corrcoef(one.q, other.q)[0, 1]))


def left(evidence: CostEvidence, found: list[Source]) -> Float[np.ndarray, "row cost"]:
    """The costs without what the found sources explain: groups, and what varies within them."""
    if not found:
        return evidence.flat
    rows, columns = evidence.rows, []
    for source in found:
        q, along = source.q[rows], source.values[rows]
        columns += [q, q * along, (1 - q) * along]
    known = evidence.within(np.stack(columns, 1))
    return evidence.flat - known @ np.linalg.lstsq(known, evidence.flat, rcond=None)[0]


def foretold(guess: Float[np.ndarray, "row cost"], costs: Float[np.ndarray, "row cost"]) -> float:
    """The share of the costs' variance that pictures left out were foretold, below 0 if none."""
    return 1 - float(((costs - guess) ** 2).sum() / (costs**2).sum())


def candidates(
    evidence: CostEvidence, carried: Float[np.ndarray, "picture cost"]
) -> Iterator[tuple[str, Float[np.ndarray, " picture"], bool]]:
    """Directions to begin with, as values of all pictures, and whether the max step found them.

    From the costs, carried to all pictures: where the max step's objective is largest, uphill from
    principal components; these components; independent components.
    """
    count = max(1, evidence.costs.shape[2] * max(1, len(evidence.compared) - 1))
    count = min(count, *carried.shape, evidence.components.shape[1])
    axes = np.linalg.svd(carried, full_matrices=False)[2][:count]
    scores = carried @ axes.T
    if evidence.several:
        for k in range(min(UPHILL, count)):
            reached, values = ascend(evidence, carried, scores[:, k])
            if reached > 1e-6:
                yield f"max step from component {k + 1} of the costs", values, True
    for k in range(min(LEADING, count)):
        yield f"component {k + 1} of the costs", scores[:, k], False
    if count > 1:
        for k, values in enumerate(_independent(scores[:, :LEADING])):
            yield f"independent component {k + 1} of the costs", values, False
    if not evidence.several:
        for k, values in enumerate(_independent(evidence.components[:, :FEATURES])):
            yield f"independent component {k + 1} of the features", values, False


def _carried(carrier: Carrier, costs: Float[np.ndarray, "row cost"]) -> np.ndarray:
    """The costs of all pictures as the components foretell them, centred within prompts."""
    return centre_within_prompts(
        carrier(costs, carrier.penalty, rows=carrier.evidence.rows)[0], carrier.evidence.prompt
    )


def _independent(values: Float[np.ndarray, "picture component"]) -> np.ndarray:
    """Independent components, a row for each; none if they do not converge to any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = FastICA(values.shape[1], random_state=0, max_iter=500, whiten="unit-variance")
        return model.fit_transform(values).T


def refine(
    carrier: Carrier,
    values: Float[np.ndarray, " picture"],
    name: str,
    costs: Float[np.ndarray, "row cost"],
    by_objective: bool,
) -> Source | None:
    """The groups along ``values``, taught to the features again and again until they stand still.

    Both sides of each prompt weigh alike when they are taught, so that a rare one is not given up.
    None if one of the groups loses its pictures.
    """
    evidence = carrier.evidence
    prompt, prompts = evidence.prompt, len(evidence.names)
    values, q, best = (values - values.mean()) / (values.std() + 1e-12), None, None
    penalty = 0.0
    for turn in range(ROUNDS):
        groups, q = fit_two_gaussians(values, prompt, prompts, q)
        if min(q.sum(), (1 - q).sum()) < FEWEST:
            return None
        penalty = penalty or carrier.best_penalty(*_lesson(carrier, q, groups))
        before, (values, weight) = values, taught(carrier, q, groups, penalty)
        groups, q = fit_two_gaussians(values, prompt, prompts, q)
        if min(q.sum(), (1 - q).sum()) < FEWEST:
            return None
        measures = measure_memberships(evidence, q, costs)
        source = Source(name, values, q, groups, weight, measures, penalty, by_objective)
        best = source
        if turn and np.corrcoef(before, values)[0, 1] > STILL:
            break
    return best


def taught(
    carrier: Carrier,
    q: Float[np.ndarray, " picture"],
    groups: TwoGaussians,
    penalty: float,
) -> tuple[Float[np.ndarray, " picture"], Float[np.ndarray, " column"]]:
    """The discriminant of the groups, cross-fitted, both sides of each prompt weighing alike."""
    target, weight = _lesson(carrier, q, groups)
    values, found = carrier(target, penalty, weight)
    return values[:, 0], found[:, 0]


def _lesson(
    carrier: Carrier, q: Float[np.ndarray, " picture"], groups: TwoGaussians
) -> tuple[Float[np.ndarray, "picture one"], Float[np.ndarray, " picture"]]:
    """What the features are taught: the side of each picture, and how much it weighs."""
    share = groups.share.clip(RAREST, 1 - RAREST)[carrier.evidence.prompt]
    one, other = q * 0.5 / share, (1 - q) * 0.5 / (1 - share)
    weight = one + other
    target = (one - other) / weight
    return target[:, None], np.minimum(weight, HEAVIEST * np.median(weight))
