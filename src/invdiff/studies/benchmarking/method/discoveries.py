"""Which estimator finds the groups: discovery alone, against the labels and between seeds."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from invdiff.data.samples import Samples
from invdiff.engine.evaluation.label_agreement import compare_with_labels
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.results import Groups as InferredGroups
from invdiff.engine.settings.study import StudySection
from invdiff.engine.workflow import session_of
from invdiff.studies.benchmarking.jobs import Job

NAMES: tuple[str, ...] = tuple(
    filter(None, get_args(StudySection.model_fields["estimator"].annotation))
)
"""Every estimator, the default first."""
CHANCE = {"auc": 0.5, "balanced_accuracy": 0.5, "adjusted_rand": 0.0}
"""What groups that nobody inferred are worth."""
FALSE_ALARM = "found_in_even"

Groups = Mapping[str, NDArray[np.integer[Any]]]
"""For each prompt which group its images are in, in the order of their ids."""


def discovery_lines(jobs: Sequence[Job], data: Samples) -> Iterator[dict[str, Any]]:
    """The tidy numbers of finished discoveries; their ``row`` is the estimator.

    For each prompt ``found`` (0 or 1) and the metrics of ``CHANCE``, which are chance where nothing
    was found; of a prompt whose labels are even ``found_in_even`` alone. ``seed_agreement`` has two
    seeds, as in "0-1".
    """
    groups: dict[str, dict[int, Groups]] = {}
    for job in jobs:
        session = session_of(RunFolder.read(job.folder))
        prompts = session.results.discovery.prompts
        found = {prompt: entry.found for prompt, entry in prompts.items()}
        known = {"set": job.name, "row": job.estimator, "seed": job.seed}
        agreement = compare_with_labels(session, data)
        yield from (known | line for line in agreement_lines(found, agreement))
        own = groups_of(session.results.groups, found)
        groups.setdefault(job.estimator, {})[job.seed] = own
    for estimator, by_seed in groups.items():
        known = {"set": jobs[0].name, "row": estimator, "metric": "seed_agreement"}
        for one, other, prompt, value in seed_pairs(by_seed):
            yield known | {"seed": f"{one}-{other}", "prompt": prompt, "value": value}


def agreement_lines(
    found: Mapping[str, bool], agreement: Mapping[str, Mapping[str, float]]
) -> Iterator[dict[str, Any]]:
    """Of each prompt whether groups were ``found``, and how well they agree with the labels."""
    for prompt, is_found in found.items():
        skewed = agreement["auc"][prompt] >= 0  # NaN where no label is rarer than the others
        metric = "found" if skewed else FALSE_ALARM
        yield {"prompt": prompt, "metric": metric, "value": int(is_found)}
        for metric, chance in CHANCE.items() if skewed else ():
            value = agreement[metric][prompt] if is_found else chance
            yield {"prompt": prompt, "metric": metric, "value": value}


def groups_of(groups: InferredGroups, found: Mapping[str, bool]) -> Groups:
    """The groups of ``groups.parquet``, and one of all images where none were found."""
    prompt, group = np.array(groups.prompt), groups.group
    order = np.argsort(np.array(groups.sample_id))
    return {
        name: group[order][prompt[order] == name] * is_found for name, is_found in found.items()
    }


def seed_pairs(by_seed: Mapping[int, Groups]) -> Iterator[tuple[int, int, str, float]]:
    """Two seeds, a prompt, and the adjusted Rand index of its groups with each.

    1 for the same groups, 0 for no more in common than by chance. Where nothing was found there is
    one group of all: 1 if that is so with both seeds, 0 if with one of them.
    """
    for one, other in combinations(sorted(by_seed), 2):
        for prompt, groups in by_seed[one].items():
            alike = adjusted_rand_score(groups, by_seed[other][prompt])
            yield one, other, prompt, float(alike)
