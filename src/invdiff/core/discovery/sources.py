"""Sources of the costs, one after another: where to look, what to settle on, what to take out.

A source is a way to split the pictures in two that the features show clearly and that shifts what
pictures cost. Whether it is tied to the prompts is a property, not a condition: what is not tied
is taken out as well, or its rest mixes with what is (docs/concepts/how-groups-are-found.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from invdiff.core.discovery.candidates import candidates, independent
from invdiff.core.discovery.evidence import Carrier, CostEvidence
from invdiff.core.discovery.mixture import fit_two_gaussians
from invdiff.core.discovery.objective import Measures, ascend, measure_memberships
from invdiff.core.discovery.refinement import Partition, refine
from invdiff.core.groups.features import centre_within_prompts

MOST = 8
SEARCHED = 3000
"""Pictures that the search looks at; the sources that it finds are refined on all."""
FEATURES = 10  # leading components of the features that are unmixed
SAME = 0.95  # correlation of memberships that are one candidate
KNOWN = 0.8  # correlation with a source that was found
NEAR = 0.5  # correlation of memberships that are about the same source
LEAST_EXPLAINED = 0.02
SWEEPS = 1


@dataclass(frozen=True)
class Source:
    """A partition of the pictures, where it came from, and what it says of the costs.

    ``measures`` are of the costs that the other sources leave. ``by_objective``: the max step's
    objective was climbed to find it.
    """

    name: str
    partition: Partition
    measures: Measures
    by_objective: bool = False

    @property
    def q(self) -> Float[np.ndarray, " picture"]:
        """The memberships."""
        return self.partition.q

    @property
    def negentropy(self) -> float:
        """How clearly the features show the groups, in nats a picture."""
        return self.partition.negentropy


@dataclass(frozen=True)
class _Unmixed:
    """The features' own independent components, refined: the same whatever was taken out."""

    turns: tuple[tuple[str, list[Partition]], ...]

    @classmethod
    def of(cls, carrier: Carrier) -> "_Unmixed":
        rows = independent(carrier.evidence.components[:, :FEATURES])
        name = "independent component {} of the features"
        return cls(tuple((name.format(k + 1), refine(carrier, one)) for k, one in enumerate(rows)))


def find_sources(evidence: CostEvidence) -> list[Source]:
    """The sources in the order in which they were taken out."""
    seen = _subset(evidence)
    part = evidence.part(seen) if len(seen) < len(evidence.prompt) else evidence
    carrier, found = Carrier(part), list[Source]()
    unmixed = _Unmixed.of(carrier)
    while len(found) < MOST:
        best = _next(carrier, unmixed, found)
        if best is None:
            break
        found.append(best)
    for _ in range(SWEEPS):
        for k, source in enumerate(found):
            found[k] = _again(carrier, source, found[:k] + found[k + 1 :])
    return found if part is evidence else _on_all(evidence, found)


def _again(carrier: Carrier, source: Source, others: list[Source]) -> Source:
    """The source, or a better one nearby, now that all others are known."""
    evidence, costs = carrier.evidence, left(carrier.evidence, others)
    starts = [source.partition.values]
    if source.by_objective:
        starts.append(ascend(evidence, _carried(carrier, costs), starts[0])[1])
    found = [_most_told(evidence, refine(carrier, values), costs) for values in starts]
    near = [one for one in found if one is not None and _alike(one.q, source.q) > NEAR]
    best = max([source.partition, *near], key=lambda one: one.negentropy)
    measures = measure_memberships(evidence, best.q, costs)
    return Source(source.name, best, measures, source.by_objective)


def _on_all(evidence: CostEvidence, found: list[Source]) -> list[Source]:
    """The sources of a part, taught to all pictures once."""
    carrier, spread = Carrier(evidence), list[Source]()
    for source in found:
        known = source.partition
        values = carrier.design @ known.weight
        q = known.groups.posterior(values, evidence.prompt)
        groups, q = fit_two_gaussians(values, evidence.prompt, len(evidence.names), q)
        spread.append(replace(source, partition=Partition.of(carrier, q, groups, known.penalty)))
    return [
        replace(source, measures=measure_memberships(evidence, source.q, left(evidence, others)))
        for k, source in enumerate(spread)
        for others in [spread[:k] + spread[k + 1 :]]
    ]


def _subset(evidence: CostEvidence) -> np.ndarray:
    """The pictures whose costs are known, and others until there are enough."""
    rest = np.setdiff1d(np.arange(len(evidence.prompt)), evidence.rows)
    more = np.random.default_rng(5).permutation(rest)[: max(0, SEARCHED - len(evidence.rows))]
    return np.sort(np.concatenate([evidence.rows, more]))


def _next(carrier: Carrier, unmixed: _Unmixed, found: list[Source]) -> Source | None:
    """The source to take out next; None if nothing is left that explains enough.

    The one that the features show most clearly: a mixture of sources, and what comes in degrees,
    is nearer to a Gaussian than a source is. What is not tied to the prompts is taken out as well.
    """
    evidence = carrier.evidence
    costs, known = left(evidence, found), list[Source]()
    carried = carrier(costs, carrier.penalty, rows=evidence.rows)[0]
    if foretold(carried[evidence.rows], costs) <= 0:
        return None
    carried = centre_within_prompts(carried, evidence.prompt)
    for name, turns, by_objective in _refined(carrier, unmixed, carried):
        best = _most_told(evidence, turns, costs)
        if best is None:
            continue
        measures = measure_memberships(evidence, best.q, costs)
        source = Source(name, best, measures, by_objective)
        if measures.explained < LEAST_EXPLAINED:
            continue
        if all(_alike(best.q, one.q) < KNOWN for one in found) and all(
            _alike(best.q, one.q) < SAME for one in known
        ):
            known.append(source)
    return max(known, default=None, key=lambda source: source.negentropy)


def _refined(
    carrier: Carrier, unmixed: _Unmixed, carried: Float[np.ndarray, "picture cost"]
) -> Iterator[tuple[str, list[Partition], bool]]:
    for name, values, by_objective in candidates(carrier.evidence, carried):
        yield name, refine(carrier, values), by_objective
    for name, turns in unmixed.turns:
        yield name, turns, False


def _most_told(
    evidence: CostEvidence, turns: list[Partition], costs: Float[np.ndarray, "row cost"]
) -> Partition | None:
    """The turn whose values are clearly two groups and told by the costs: the product is largest.

    None if a group has lost its pictures at once.
    """
    return max(
        turns, default=None, key=lambda one: one.negentropy * told(evidence, one.values, costs)
    )


def _alike(one: Float[np.ndarray, " picture"], other: Float[np.ndarray, " picture"]) -> float:
    return abs(float(np.corrcoef(one, other)[0, 1]))


def left(evidence: CostEvidence, found: list[Source]) -> Float[np.ndarray, "row cost"]:
    """The costs without what the found sources explain: groups, and what varies within them."""
    if not found:
        return evidence.flat
    rows, columns = evidence.rows, []
    for source in found:
        q, along = source.q[rows], source.partition.values[rows]
        columns += [q, q * along, (1 - q) * along]
    known = evidence.within(np.stack(columns, 1))
    return evidence.flat - known @ np.linalg.lstsq(known, evidence.flat, rcond=None)[0]


def foretold(guess: Float[np.ndarray, "row cost"], costs: Float[np.ndarray, "row cost"]) -> float:
    """The share of the costs' variance that pictures left out were foretold, below 0 if none."""
    return 1 - float(((costs - guess) ** 2).sum() / (costs**2).sum())


def told(evidence: CostEvidence, values: np.ndarray, costs: Float[np.ndarray, "row cost"]) -> float:
    """The share of the values' variance within prompts that the costs tell, linearly."""
    inside = evidence.within(values[evidence.rows])
    found = np.linalg.lstsq(costs, inside, rcond=None)[0]
    return max(0.0, 1 - float(((inside - costs @ found) ** 2).sum() / (inside @ inside + 1e-30)))


def _carried(carrier: Carrier, costs: Float[np.ndarray, "row cost"]) -> np.ndarray:
    """The costs of all pictures as the components foretell them, centred within prompts."""
    return centre_within_prompts(
        carrier(costs, carrier.penalty, rows=carrier.evidence.rows)[0], carrier.evidence.prompt
    )
