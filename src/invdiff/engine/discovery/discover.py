"""Stage 1, the max step on disk: latents, scores and features, then inferred groups.

Writes ``scores.parquet``, ``groups.parquet``, ``group_model.safetensors`` and ``discovery.json``
(docs/reference/files.md). Attribute columns are opened for the ``labels`` estimator alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.core.balancing.reweighting import balanced_weights
from invdiff.core.discovery.grouping import Grouping
from invdiff.core.discovery.scores import mean_of_draws, mean_of_levels, reliability
from invdiff.core.discovery.verdict import agreement
from invdiff.core.groups.memberships import memberships, shares_of
from invdiff.data.samples import Samples
from invdiff.data.sources import read_labels
from invdiff.engine.discovery.adaptive_draws import adapt
from invdiff.engine.discovery.estimators import Evidence, estimate
from invdiff.engine.discovery.groups import columns, save_models, wanted_mix
from invdiff.engine.discovery.record import findings
from invdiff.engine.discovery.scoring import Measured, measure
from invdiff.engine.distributed.pool import kept_workers
from invdiff.engine.encoding.data import open_run_samples
from invdiff.engine.encoding.prompt_groups import Grouped, group_prompts
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.settings.common import INFERRING
from invdiff.engine.settings.deciding_levels import high_levels
from invdiff.engine.storage.files import write_json, write_parquet
from invdiff.errors import ConfigError


def discover(run: RunFolder) -> None:
    """Infer the groups of the run's data, or go on doing so; nothing happens if it is done."""
    if run.done("discover"):
        return
    with run.stage("discover") as stage:
        grouped = group_prompts(run, open_run_samples(run))
        given_labels(run, grouped.samples)
        with kept_workers():
            measured = measure(run, grouped.samples)
            if run.config.discover.adaptive:
                measured, inferred, more = adapt(run, grouped.samples, measured, infer)
            else:
                inferred, more = infer(run, grouped.samples, measured), {}
        write_results(run, grouped, measured, *inferred, more)
        verdicts = inferred[0].verdicts
        found = [name for name, verdict in verdicts.items() if verdict.found]
        stage.facts["found"] = found


def given_labels(run: RunFolder, samples: Samples) -> tuple[str, ...] | None:
    """The labels that the oracle takes its groups from; None for every other estimator.

    Raises:
        ConfigError: there are more labels than ``discover.most_groups``, or not as many as the
            settings want shares of.
    """
    section, column = run.config.discover, run.config.data.label_column
    if section.estimator != "labels":
        return None
    labels = read_labels(run.config.data.path, column, samples)
    count = max(2, len(set(labels)))
    if count > section.most_groups:
        raise ConfigError(
            f"discover.most_groups = {section.most_groups}, and the column "
            f"{column or 'of the set'} has {count} labels: raise it, or name a coarser column"
        )
    wanted_mix(section, count)
    return labels


def infer(run: RunFolder, samples: Samples, measured: Measured) -> tuple[Grouping, Grouping | None]:
    """The groups, and if they are inferred once more from the second noise draws alone."""
    config, prompt = run.config, np.array(samples.prompt)
    labels = given_labels(run, samples)

    def evidence(features: np.ndarray, draws: slice, seed: int) -> Evidence:
        scores, levels = measured.scores, config.discover.levels
        return Evidence(
            prompt,
            features,
            measured.scored,
            score=high_noise(scores.excess, levels, draws),
            loss_score=high_noise(scores.loss, levels, draws),
            profile=mean_of_draws(scores.excess[:, :, draws]).astype(np.float64),
            loss=mean_of_levels(scores.loss[:, :, draws]).astype(np.float64),
            contrasts=lambda: measured.contrasts().over(draws),
            reference=measured.reference,
            labels=labels,
            seed=seed,
        )

    grouping = estimate(evidence(measured.features, slice(None), 0), config)
    if config.discover.estimator not in INFERRING:
        return grouping, None
    other = measured.features.copy()
    other[measured.scored] = measured.second_features
    return grouping, estimate(evidence(other, slice(1, None, 2), 1), config)


def high_noise(values: np.ndarray, levels: list[float], draws: slice) -> np.ndarray:
    """The score that groups are ranked by: the mean at high noise, one number an image.

    Where the attribute is decided the conflicting image costs more under its own prompt than
    under none; at lower noise the sign turns, so an average over all levels cancels (design 1.2).
    """
    return mean_of_levels(values[:, high_levels(levels)][:, :, draws]).astype(np.float64)


def write_results(
    run: RunFolder,
    grouped: Grouped,
    measured: Measured,
    grouping: Grouping,
    again: Grouping | None,
    more: Mapping[str, Any],
) -> None:
    """Everything later stages read, each file whole or not at all.

    ``more`` is what the record says besides.
    """
    config, samples = run.config, grouped.samples
    prompt = np.array(samples.prompt)
    groups = memberships(grouping.against[:0]).shape[1]
    found = [name for name, verdict in grouping.verdicts.items() if verdict.found]
    mix = shares_of(wanted_mix(config.discover, groups)) if found else np.zeros(groups)
    shares = dict.fromkeys(found, mix)
    pool = np.zeros_like(prompt) if config.train.objective == "reference" else prompt
    if config.train.objective == "reference":
        shares = {pool[0]: mix} if shares else {}
    write_parquet(
        run.path / "groups.parquet",
        {
            "sample_id": list(samples.sample_id),
            "prompt": list(samples.prompt),
            "caption": list(samples.caption),
            **columns(grouping.against),
            "weight": balanced_weights(grouping.against, pool, shares, config.discover.certainty),
        },
    )
    write_scores(run.path / "scores.parquet", samples, measured, config.discover.levels)
    save_models(run.path / "group_model.safetensors", grouping.models)
    stable = None
    if again is not None:
        stable = agreement(
            grouping.against[measured.scored],
            again.against[measured.scored],
            prompt[measured.scored],
        )
    steady = reliability(measured.scores.excess, prompt[measured.scored])
    record = findings(config, measured.scores, measured.scored, prompt, grouping, steady, stable)
    for name, entry in record["prompts"].items():
        entry |= grouped.about(name)
    record |= {"prompt_groups": grouped.record(), **more}
    write_json(run.path / "discovery.json", record)


def write_scores(path: Path, samples: Samples, measured: Measured, levels: list[float]) -> None:
    """One row for each scored image and level."""
    count, scored = len(measured.scored), measured.scored
    write_parquet(
        path,
        {
            "sample_id": [samples.sample_id[i] for i in scored for _ in levels],
            "prompt": [samples.prompt[i] for i in scored for _ in levels],
            "level": np.tile(levels, count),
            "loss": mean_of_draws(measured.scores.loss).ravel(),
            "excess": mean_of_draws(measured.scores.excess).ravel(),
        },
    )
