"""The suite of attributes: what discovery infers beside every labelled attribute of the sets.

Its runs are those of the default estimator in the suite of the method: both can share a folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from invdiff.core.discovery.attributes import MIXED
from invdiff.data.sets import builtin
from invdiff.data.sets.stored import open_set
from invdiff.data.sources import read_labels
from invdiff.engine.discovery.scoring import Passes
from invdiff.engine.encoding.encode import encode_pictures, group_prompts
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.results import Results
from invdiff.engine.settings.method import MOST_GROUPS
from invdiff.engine.workflow import session_of
from invdiff.studies.benchmarking import jobs
from invdiff.studies.benchmarking.attributes_table import write_attributes_table
from invdiff.studies.benchmarking.method_suite import asked_sets, is_built, require_own_settings
from invdiff.studies.benchmarking.suites import OURS

FOLDS = 5
"""Parts of the data of which the probe is measured on each, trained on the others."""

Lines = Iterator[dict[str, Any]]
Values = NDArray[np.bool_]


def benchmark_attributes(
    names: Sequence[str], seeds: int, out: Path, changes: Sequence[str] = ()
) -> Path:
    """Do what is missing for seeds 0..seeds-1, one set after the other; returns ``attributes.md``.

    Without ``names`` all sets that are there. The files are written after each set. ``changes`` are
    settings of all runs of this call; the page names them.

    Raises:
        ConfigError: there is no such set, fewer than one seed, or a change that is no setting.
        DataError: a set that was named is not there.
        RunError: a run folder below ``out`` was made with other settings.
    """
    asked = asked_sets(names, seeds)
    require_own_settings(asked, changes)
    table, lines, left_out = out / "attributes.md", list[dict[str, Any]](), dict[str, list[str]]()
    for name in asked:
        todo = jobs_of_set(name, seeds, out, changes)
        jobs.do_missing(todo, out / name / "attributes-time.json", f"{name}: attributes")
        for job in todo:
            lines += attribute_lines(job)
        left_out[name] = [one for one, values in stored_attributes(name).items() if many(values)]
        facts = {
            "sets": list(left_out),
            "seeds": list(range(seeds)),
            "left_out": {one: found for one, found in left_out.items() if found},
            "missing": asked[len(left_out) :],
            "not_built": [] if names else unbuilt(asked),
            "options": [f"--{change}" for change in changes],
        }
        table = write_attributes_table(out, lines, facts)
    return table


def jobs_of_set(name: str, seeds: int, out: Path, changes: Sequence[str] = ()) -> list[jobs.Job]:
    """Discovery with the default estimator, one for each seed."""
    place = str(out / name)
    return [
        jobs.Job(place, name, OURS, seed, tuple(changes), jobs.DEFAULT) for seed in range(seeds)
    ]


def unbuilt(asked: Sequence[str]) -> list[str]:
    """The sets that are not there."""
    return [name for name in builtin.SETS if name not in asked and not is_built(name)]


def stored_attributes(name: str) -> dict[str, tuple[str, ...]]:
    """The labelled attributes of a set, by name."""
    return open_set(name).attributes("train")


def many(values: Sequence[str]) -> bool:
    """Whether an attribute has more values than discovery has groups at most."""
    return len(set(values)) > MOST_GROUPS


def attribute_lines(job: jobs.Job) -> Lines:
    """The numbers of a finished discovery, each value of the labelled attributes for itself."""
    session = session_of(RunFolder.read(job.folder))
    grouped = group_prompts(session)
    samples, section = grouped.samples, session.config.data
    passes = Passes(session, samples, encode_pictures(session))
    # from the run's cache, as discovery has left them
    features = passes.features(np.arange(len(samples)), 1, "features", "reading features")
    prompt = np.array(samples.prompt)
    for attribute, values in stored_attributes(job.name).items():
        if many(values):
            continue
        labels = np.array(read_labels(section.path, attribute, samples))
        for value in told_values(labels):
            truth = labels == value
            mixed = [name for name in samples.prompts() if is_mixed(truth[prompt == name])]
            if not mixed:
                continue
            known = {"set": job.name, "row": attribute, "group": value, "seed": job.seed}
            found = inferred_lines(session.results, prompt, truth, mixed)
            probe = probe_lines(features, prompt, truth, mixed, job.seed)
            yield from (known | line for of in (found, probe) for line in of)


def told_values(labels: NDArray[np.str_]) -> list[str]:
    """The values to be found: of two the second, which says all, of more each."""
    values = [str(value) for value in np.unique(labels)]
    return values[1:] if len(values) == 2 else values


def is_mixed(truth: Values) -> bool:
    """Whether the pictures of a prompt have both: a value and others, enough for the probe."""
    rarer = min(truth.sum(), (~truth).sum())
    return bool(rarer >= max(FOLDS, MIXED * len(truth)))


def inferred_lines(
    results: Results, prompt: NDArray[np.str_], truth: Values, mixed: Sequence[str]
) -> Lines:
    """How the inferred attribute that agrees best with a value does so, under each prompt.

    It is chosen, and turned round, by the mean AUC over the ``mixed`` prompts. Where nothing was
    inferred all is chance, and there are no shares.
    """
    best, name, chosen = 0.5, "", np.full(len(truth), 0.5)
    for one, q in results.attribute_memberships.items():
        area = float(np.mean([_auc(truth, q, prompt == text) for text in mixed]))
        turned = 1 - q if area < 0.5 else q
        if max(area, 1 - area) > best:
            best, name, chosen = max(area, 1 - area), one, turned
    for entry in results.attributes:
        if entry.id == name:
            yield {"metric": "clear", "value": int(entry.verdict == "clear"), "id": name}
            yield {"metric": "tied", "value": int(entry.tied), "id": name}
    for text in np.unique(prompt):
        rows = prompt == text
        shares = {"true_share": truth[rows].mean()}
        if name:
            shares["inferred_share"] = chosen[rows].mean()
        agreed = {}
        if text in mixed:
            agreed["auc"] = _auc(truth, chosen, rows)
            agreed["balanced_accuracy"] = balanced_accuracy_score(truth[rows], chosen[rows] > 0.5)
        for metric, number in {**agreed, **shares}.items():
            yield {"prompt": str(text), "metric": metric, "value": float(number)}


def probe_lines(
    features: NDArray[np.float64],
    prompt: NDArray[np.str_],
    truth: Values,
    mixed: Sequence[str],
    seed: int,
) -> Lines:
    """What a logistic regression with the labels reaches on pictures that it was not trained on."""
    for text in mixed:
        rows = prompt == text
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        parts = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        odds = cross_val_predict(
            probe, features[rows], truth[rows], cv=parts, method="decision_function"
        )
        numbers: Mapping[str, float] = {
            "probe_auc": roc_auc_score(truth[rows], odds),
            "probe_balanced_accuracy": balanced_accuracy_score(truth[rows], odds > 0),
        }
        for metric, number in numbers.items():
            yield {"prompt": text, "metric": metric, "value": float(number)}


def _auc(truth: Values, q: NDArray[np.float64], rows: Values) -> float:
    return float(roc_auc_score(truth[rows], q[rows]))
