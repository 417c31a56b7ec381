"""What the suite of the method found: discoveries against labels and seeds, and its three files.

``method.md`` to read, ``method.csv`` and ``method.json``.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from invdiff.core.uncertainty.intervals import wilson
from invdiff.data.samples import Samples
from invdiff.engine.evaluation.label_agreement import compare_with_labels
from invdiff.engine.run.environment import environment
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.results import Groups as InferredGroups
from invdiff.engine.settings.study import StudySection
from invdiff.engine.workflow import session_of
from invdiff.studies.benchmarking import page
from invdiff.studies.benchmarking.jobs import DEFAULT, SCALES, Job
from invdiff.studies.benchmarking.measured import BASE, mean, mean_over_prompts, over_seeds, tidy
from invdiff.studies.benchmarking.rows import DISTANCE, row_words
from invdiff.studies.benchmarking.suites import METHOD, ORACLE, OURS

NAMES: tuple[str, ...] = tuple(
    filter(None, get_args(StudySection.model_fields["estimator"].annotation))
)
"""Every estimator, the default first."""
CHANCE = {"auc": 0.5, "balanced_accuracy": 0.5, "adjusted_rand": 0.0}
"""What groups that nobody inferred are worth."""
FALSE_ALARM = "found_in_even"

Groups = Mapping[str, NDArray[np.integer[Any]]]
"""For each prompt which group its images are in, in the order of their ids."""
ROWS = ("reference recipe", "top loss", OURS, ORACLE)
COUNTS = ["found", FALSE_ALARM]
FOUND = (
    page.Column("skewed prompts found", "found", page.COUNTED),
    page.Column("AUC", "auc", page.RANGE, 3),
    page.Column("balanced accuracy", "balanced_accuracy", page.RANGE, 3),
    page.Column("adjusted Rand index", "adjusted_rand", page.RANGE, 3),
    page.Column("seed agreement", "seed_agreement", digits=3),
    page.Column("found in even prompts", FALSE_ALARM, page.COUNTED + " [{low}, {high}]"),
)
BALANCED = tuple(
    page.Column(f"{head}, {scale:g}", metric, pattern, digits, {"scale": scale})
    for head, metric, pattern, digits in (
        ("Bias", "bias", page.INTERVAL, 2),
        ("fidelity", "fidelity", page.INTERVAL, 3),
        (DISTANCE, "frechet.balanced", page.RANGE, 2),
    )
    for scale in SCALES
)
AGAINST_ORACLE = (
    page.Column("Bias less the oracle's", "bias_less_oracle", page.RANGE),
    page.Column("cut, of the oracle's", "cut"),
    page.Column("fidelity less the base's", "fidelity_less_base", page.RANGE, 3),
    page.Column(f"{DISTANCE.split()[0]} less the base's", "frechet_less_base", page.RANGE),
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
    seeds = page.where(summaries["against_oracle"], metric="cut").set_index(["set", "scale"])[
        "count"
    ]
    sets = [page.label(name, count, of) for (name, _), count in seeds.items()]
    texts = {
        "found": page.shown_table(
            summaries["found"],
            page.labels(found[found["metric"] != "seed_agreement"], keys, of).rename("estimator"),
            FOUND,
        ),
        "balanced": page.shown_table(
            summaries["balanced"], page.labels(balanced, keys, of, min(SCALES)), BALANCED
        ),
        "against_oracle": page.shown_table(
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
            name: (
                count,
                page.number(mean(page.where(balanced, set=name, metric="bias.parity_value").value)),
            )
            for name, count in facts["images_per_prompt"].items()
        },
        "words": row_words(ROWS),
        "minutes": pd.DataFrame(facts["wall_seconds"].values()).sum().to_dict(),
        "changed": _changed(facts["changes"]),
    }
    every = pd.concat([rows, oracle_differences(against)], ignore_index=True)
    return page.publish(out, every, record, context | texts, "method", ("method",) * 3)


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
