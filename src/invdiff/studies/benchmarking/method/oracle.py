"""The default beside the label oracle and the base model, seed by seed."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from invdiff.studies.benchmarking.averages import BASE, at, mean
from invdiff.studies.benchmarking.method.summaries import Result, spread
from invdiff.studies.benchmarking.rows import SCALES
from invdiff.studies.benchmarking.suites import ORACLE, OURS

COMPARED = ((OURS, BASE), (OURS, "guided"), (ORACLE, "guided"))
Triple = Sequence[Mapping[str, Any]]
"""The base model, the default and the oracle, as metrics.json has them at one scale."""


def oracle_lines(result: Result) -> Iterator[dict[str, Any]]:
    """One line for each guidance scale, of the seeds in which both rows have a Bias.

    ``difference`` is the default's Bias less the oracle's. ``cut`` is how much of what the oracle
    takes off the base's Bias, means over the seeds, the default takes off; None where the oracle
    takes off less than a balanced sampler would show. ``fidelity`` and ``distance`` are the
    default's less the base's.
    """
    arms = {(run["row"], run["seed"]): run["arms"] for run in result.balanced}
    seeds = sorted({seed for _, seed in arms})
    for scale in SCALES:
        triples = [
            [arms.get((row, seed), {}).get(arm, {}).get(str(scale)) for row, arm in COMPARED]
            for seed in seeds
        ]
        known = [triple for triple in triples if all(triple) and len(_biases(triple)) == 3]
        if known:
            yield {"set": result.name, "scale": scale, "seeds": len(known), **_compared(known)}


def _compared(triples: Sequence[Triple]) -> dict[str, Any]:
    biases = [_biases(triple) for triple in triples]
    base, ours, oracle = (fmean(column) for column in zip(*biases, strict=True))
    parity = mean(at((triple[0] for triple in triples), "bias", "parity_value")) or 0.0
    return {
        "difference": spread(after - best for _, after, best in biases),
        "cut": (base - ours) / (base - oracle) if base - oracle > parity else None,
        "fidelity": _gain(triples, "fidelity", "value"),
        "distance": _gain(triples, "frechet", "balanced", "value"),
    }


def _biases(triple: Triple) -> list[float]:
    return list(at(triple, "bias", "value"))


def _gain(triples: Sequence[Triple], *figure: str) -> dict[str, float | None]:
    """Default less base; of the seeds that have the figure."""
    both = [list(at(triple[:2], *figure)) for triple in triples]
    return spread(pair[1] - pair[0] for pair in both if len(pair) == 2)
