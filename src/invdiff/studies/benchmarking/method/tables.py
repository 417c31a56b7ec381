"""The files of the suite: ``method.md`` to read, ``method.csv`` and ``method.json``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from invdiff.core.uncertainty.intervals import wilson
from invdiff.engine.run.environment import environment
from invdiff.studies.benchmarking.jobs import DEFAULT, SCALES
from invdiff.studies.benchmarking.measured import BASE, tidy
from invdiff.studies.benchmarking.method.discoveries import CHANCE, FALSE_ALARM, NAMES
from invdiff.studies.benchmarking.page import (
    COUNTED,
    INTERVAL,
    RANGE,
    Column,
    label,
    labels,
    number,
    publish,
    shown_table,
    where,
)  # fmt: skip
from invdiff.studies.benchmarking.rows import DISTANCE, row_words
from invdiff.studies.benchmarking.suites import METHOD, ORACLE, OURS
from invdiff.studies.benchmarking.summary import mean, mean_over_prompts, over_seeds

ROWS = ("reference recipe", "top loss", OURS, ORACLE)
COUNTS = ["found", FALSE_ALARM]
FOUND = (
    Column("skewed prompts found", "found", COUNTED),
    Column("AUC", "auc", RANGE, 3),
    Column("balanced accuracy", "balanced_accuracy", RANGE, 3),
    Column("adjusted Rand index", "adjusted_rand", RANGE, 3),
    Column("seed agreement", "seed_agreement", digits=3),
    Column("found in even prompts", FALSE_ALARM, COUNTED + " [{low}, {high}]"),
)
BALANCED = tuple(
    Column(f"{head}, {scale:g}", metric, pattern, digits, {"scale": scale})
    for head, metric, pattern, digits in (
        ("Bias", "bias", INTERVAL, 2),
        ("fidelity", "fidelity", INTERVAL, 3),
        (DISTANCE, "frechet.balanced", RANGE, 2),
    )
    for scale in SCALES
)
AGAINST_ORACLE = (
    Column("Bias less the oracle's", "bias_less_oracle", RANGE),
    Column("cut, of the oracle's", "cut"),
    Column("fidelity less the base's", "fidelity_less_base", RANGE, 3),
    Column(f"{DISTANCE.split()[0]} less the base's", "frechet_less_base", RANGE),
)


def write_method(out: Path, rows: pd.DataFrame, facts: Mapping[str, Any]) -> Path:
    """Write the three files into ``out``; returns the first.

    ``rows`` is tidy; ``facts`` is what else the record has: sets, seeds, what is missing and so on.
    """
    found = rows[rows["row"].isin(NAMES)]
    balanced = rows[rows["row"].isin([BASE, *ROWS]) & rows["scale"].notna()]
    against = beside_oracle(balanced)
    summaries = {
        "found": found_summary(found),
        "balanced": over_seeds(balanced),
        "against_oracle": against_oracle(against),
    }
    records = {name: summary.to_dict("records") for name, summary in summaries.items()}
    record = {"suite": METHOD, **facts, **records, "versions": environment()["versions"]}
    of, keys = len(facts["seeds"]), ["set", "row"]
    seeds = where(summaries["against_oracle"], metric="cut").set_index(["set", "scale"])["count"]
    sets = [label(name, count, of) for (name, _), count in seeds.items()]
    texts = {
        "found": shown_table(
            summaries["found"],
            labels(found[found["metric"] != "seed_agreement"], keys, of).rename("estimator"),
            FOUND,
        ),
        "balanced": shown_table(
            summaries["balanced"], labels(balanced, keys, of, min(SCALES)), BALANCED
        ),
        "against_oracle": shown_table(
            summaries["against_oracle"], pd.Series(sets, seeds.index, name="set"), AGAINST_ORACLE
        ),
    }
    for name in ("found", "balanced"):
        texts[name].insert(0, "set", texts[name].index.get_level_values("set"))
    scales = [f"{scale:g}" for _, scale in seeds.index]
    texts["against_oracle"].insert(1, "scale", scales)
    context = {
        "default": DEFAULT,
        "ours": OURS,
        "oracle": ORACLE,
        "scales": SCALES,
        "images": {
            name: (count, number(mean(where(balanced, set=name, metric="bias.parity_value").value)))
            for name, count in facts["images_per_prompt"].items()
        },
        "words": row_words(ROWS),
        "minutes": pd.DataFrame(facts["wall_seconds"].values()).sum().to_dict(),
        "changed": _changed(facts["changes"]),
    }
    every = pd.concat([rows, oracle_differences(against)], ignore_index=True)
    return publish(out, every, record, context | texts, "method", ("method",) * 3)


def found_summary(found: pd.DataFrame) -> pd.DataFrame:
    """The means over the seeds of each estimator's metrics, which are means over its prompts.

    ``found`` and ``found_in_even`` count over all prompts and seeds; their interval is that of the
    share (Wilson). ``seed_agreement`` is the mean over prompts and pairs of seeds.
    """
    others = found[found["metric"].isin([*COUNTS, "seed_agreement"])].assign(prompt="")
    summary = over_seeds(pd.concat([others, mean_over_prompts(found, list(CHANCE))]))
    counts = summary["metric"].isin(COUNTS)
    total, count = (summary.loc[counts, name].to_numpy(np.int64) for name in ("total", "count"))
    summary.loc[counts, ["low", "high"]] = np.stack(wilson(total, count), axis=-1)
    return summary


def beside_oracle(balanced: pd.DataFrame) -> pd.DataFrame:
    """The metrics of base, default and oracle side by side, where all three have a Bias.

    By set, scale and seed; the columns are metrics and rows.
    """
    names = [BASE, OURS, ORACLE]
    metrics = ["bias", "fidelity", "frechet.balanced", "bias.parity_value"]
    own = balanced[balanced["metric"].isin(metrics) & balanced["row"].isin(names)]
    order = pd.Categorical(own["set"], own["set"].unique(), ordered=True)
    keys = ["set", "scale", "seed", "metric", "row"]
    wide = own.assign(set=order).set_index(keys)["value"].unstack(["metric", "row"])
    wide = wide.reindex(columns=pd.MultiIndex.from_product([metrics, names]))
    return wide[wide["bias"].notna().all(axis=1)]


def oracle_differences(wide: pd.DataFrame) -> pd.DataFrame:
    """What the default has more than the oracle or the base, as tidy lines of the default."""
    found = pd.DataFrame(
        {
            "bias_less_oracle": wide["bias", OURS] - wide["bias", ORACLE],
            "fidelity_less_base": wide["fidelity", OURS] - wide["fidelity", BASE],
            "frechet_less_base": wide["frechet.balanced", OURS] - wide["frechet.balanced", BASE],
        }
    )
    long = found.reset_index().melt(["set", "scale", "seed"], var_name="metric")
    return tidy(long.assign(row=OURS, set=long["set"].astype(object)).to_dict("records"))


def against_oracle(wide: pd.DataFrame) -> pd.DataFrame:
    """The means of :func:`oracle_differences`, and ``cut`` for each set and scale.

    That is how much of what the oracle takes off the base's Bias, means over the seeds, the default
    takes off; NaN where the oracle takes off less than a balanced sampler would show.
    """
    grouped = wide.groupby(["set", "scale"], observed=True)
    means = grouped.agg(mean)
    base, ours, oracle = (means["bias", row] for row in (BASE, OURS, ORACLE))
    parity = means["bias.parity_value", BASE].fillna(0.0)
    cut = ((base - ours) / (base - oracle)).where(base - oracle > parity)
    lines = pd.DataFrame({"value": cut, "count": grouped.size()}).reset_index()
    return pd.concat([over_seeds(oracle_differences(wide)), lines.assign(row=OURS, metric="cut")])


def _changed(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The settings that are not the suite's own, each with its sets and parts."""
    places: dict[str, list[str]] = {}
    for name, parts in changes.items():
        for part, own in parts.items():
            if own:
                words = " ".join(f"--{change}" for change in own)
                places.setdefault(words, []).append(f"{name}, {part}")
    return places
