"""Stage 1, the max step on disk: latents, scores and features, then inferred groups.

Writes ``scores.parquet``, ``groups.parquet``, ``group_model.safetensors``,
``discovery.json``, ``attributes.json`` and ``attributes.parquet``
(docs/reference/files.md). Attribute columns are opened for the ``labels`` estimator alone.
"""

from pathlib import Path
from typing import Any

import numpy as np

from invdiff.core.balancing.reweighting import balanced_weights
from invdiff.core.discovery.grouping import Grouping
from invdiff.core.discovery.scores import reliability
from invdiff.core.groups.memberships import memberships, shares_of
from invdiff.data.samples import Samples
from invdiff.data.sources import read_labels
from invdiff.engine.discovery.attributes import write_attributes
from invdiff.engine.discovery.estimators import Evidence, estimate_groups
from invdiff.engine.discovery.groups import save_models, wanted_mix
from invdiff.engine.discovery.record import findings
from invdiff.engine.discovery.scoring import PassResults, run_passes
from invdiff.engine.distributed.pool import kept_workers
from invdiff.engine.encoding.encode import Grouped, group_prompts
from invdiff.engine.encoding.session import Session
from invdiff.engine.run.inputs import inputs_of
from invdiff.engine.run.records import Discovery
from invdiff.engine.run.results import Groups
from invdiff.engine.settings.method import MOST_GROUPS, high_levels
from invdiff.engine.settings.schema import Config
from invdiff.engine.storage.files import plain, write_parquet
from invdiff.errors import ConfigError


def discover(session: Session) -> dict[str, Any]:
    """Infer the groups of the run's data, or go on doing so; facts for the stage's record."""
    made_from = inputs_of(session.config, session.base_model if session.pipeline is None else None)
    grouped = group_prompts(session)
    labels = given_labels(session.config, grouped.samples)
    with kept_workers():
        measured = run_passes(session, grouped.samples)
        grouping = infer(session.config, grouped.samples, measured, labels)
    write_results(session, grouped, measured, grouping)
    found = [name for name, verdict in grouping.verdicts.items() if verdict.found]
    return {"found": found, "made_from": made_from}


def given_labels(config: Config, samples: Samples) -> tuple[str, ...] | None:
    """The labels that the oracle takes its groups from; None for every other estimator.

    Raises:
        ConfigError: there are more labels than ``MOST_GROUPS``, or not as many as the settings want
            shares of.
    """
    column = config.data.label_column
    if config.estimator != "labels":
        return None
    labels = read_labels(config.data.path, column, samples)
    count = max(2, len(set(labels)))
    if count > MOST_GROUPS:
        raise ConfigError(
            f"data.label_column: the column {column or 'of the set'} has {count} labels, and "
            f"there may be {MOST_GROUPS}: name a coarser one"
        )
    wanted_mix(config.discover, count)
    return labels


def infer(
    config: Config, samples: Samples, measured: PassResults, labels: tuple[str, ...] | None
) -> Grouping:
    """The groups, by the estimator that the settings name."""
    scores, levels = measured.scores, config.discover.levels
    evidence = Evidence(
        np.array(samples.prompt),
        measured.features,
        measured.scored,
        score=high_noise(scores.excess, levels),
        loss_score=high_noise(scores.loss, levels),
        loss=scores.loss.mean((1, 2)).astype(np.float64),
        contrasts=lambda: measured.contrasts().mean(),
        passes=measured.passes,
        labels=labels,
    )
    return estimate_groups(evidence, config)


def high_noise(values: np.ndarray, levels: list[float]) -> np.ndarray:
    """The score that groups are ranked by: the mean at high noise, one number an image.

    Where the attribute is decided the conflicting image costs more under its own prompt than
    under none; at lower noise the sign turns, so an average over all levels cancels.
    """
    return values[:, high_levels(levels)].mean((1, 2)).astype(np.float64)


def write_results(
    session: Session,
    grouped: Grouped,
    measured: PassResults,
    grouping: Grouping,
) -> None:
    """Everything later stages read, each file whole or not at all."""
    config, samples = session.config, grouped.samples
    prompt = np.array(samples.prompt)
    groups = memberships(grouping.against[:0]).shape[1]
    found = [name for name, verdict in grouping.verdicts.items() if verdict.found]
    mix = shares_of(wanted_mix(config.discover, groups)) if found else np.zeros(groups)
    shares = dict.fromkeys(found, mix)
    pool = np.zeros_like(prompt) if config.study.pooled else prompt
    if config.study.pooled:
        shares = {pool[0]: mix} if shares else {}
    weight = balanced_weights(grouping.against, pool, shares, config.study.certainty)
    columns = samples.sample_id, samples.prompt, samples.caption
    session.results.write_groups(Groups(*columns, grouping.against, weight, samples.name))
    write_scores(session.path / "scores.parquet", samples, measured, config.discover.levels)
    write_attributes(session, samples, grouping)
    save_models(session.path / "group_model.safetensors", grouping.models)
    steady = reliability(measured.scores.excess, prompt[measured.scored])
    record = findings(config, measured.scores, measured.scored, prompt, grouping, steady)
    for name, entry in record["prompts"].items():
        entry |= grouped.about(name)
    session.results.write(Discovery(**plain(record), prompt_groups=plain(grouped.record())))


def write_scores(path: Path, samples: Samples, measured: PassResults, levels: list[float]) -> None:
    """One row for each scored image and level."""
    count, scored = len(measured.scored), measured.scored
    write_parquet(
        path,
        {
            "sample_id": [samples.sample_id[i] for i in scored for _ in levels],
            "prompt": [samples.prompt[i] for i in scored for _ in levels],
            "level": np.tile(levels, count),
            "loss": measured.scores.loss.mean(2).ravel(),
            "excess": measured.scores.excess.mean(2).ravel(),
        },
    )
