"""The three files of the suite of attributes: ``attributes.md``, ``.csv`` and ``.json``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from invdiff.engine.run.environment import environment
from invdiff.studies.benchmarking import page
from invdiff.studies.benchmarking.measured import mean, over_seeds, tidy
from invdiff.studies.benchmarking.suites import ATTRIBUTES

KEYS = ["set", "row", "group"]
AGREED = ("auc", "balanced_accuracy", "probe_auc", "probe_balanced_accuracy")
COLUMNS = (
    page.Column("AUC", "auc", page.RANGE, 3),
    page.Column("least", "auc.least", page.RANGE, 3),
    page.Column("balanced accuracy", "balanced_accuracy", page.RANGE, 3),
    page.Column("its least", "balanced_accuracy.least", page.RANGE, 3),
    page.Column("probe's AUC", "probe_auc", page.RANGE, 3),
    page.Column("its least AUC", "probe_auc.least", page.RANGE, 3),
    page.Column("largest difference of shares", "share_difference", page.RANGE),
)
NONE = "nothing"


def write_attributes_table(
    out: Path, lines: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> Path:
    """Write the three files into ``out``; returns the first.

    ``lines`` are tidy, those of ``clear`` and ``tied`` with the ``id`` of the inferred attribute;
    ``facts`` is what else the record has.
    """
    rows = tidy(lines)
    numbers = pd.concat([rows, by_seed(rows)], ignore_index=True)
    summary = over_seeds(numbers)
    ids = [{key: line[key] for key in (*KEYS, "seed", "id")} for line in lines if "id" in line]
    inferred = list({tuple(one.values()): one for one in ids}.values())
    record = {
        "suite": ATTRIBUTES,
        **facts,
        "inferred": inferred,
        "rows": summary.to_dict("records"),
        "versions": environment()["versions"],
    }
    context = {"table": attribute_table(summary, inferred, len(facts["seeds"]))}
    return page.publish(out, numbers, record, context, "attributes", ("attributes",) * 3)


def by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each seed the means and least of the agreement over prompts, and how far shares are off.

    Lines without a prompt; ``share_difference`` is the largest of the prompts with both values.
    """
    lines = []
    for place, own in rows.groupby([*KEYS, "seed"], sort=False):
        known = dict(zip([*KEYS, "seed"], place, strict=True))
        wide = own.pivot_table("value", "prompt", "metric", sort=False)
        for metric in wide.columns.intersection(AGREED):
            values = wide[metric].dropna()
            lines.append(known | {"metric": metric, "value": mean(values)})
            lines.append(known | {"metric": f"{metric}.least", "value": values.min()})
        if "inferred_share" in wide:
            both = wide[wide["auc"].notna()]
            apart = (both["inferred_share"] - both["true_share"]).abs().max()
            lines.append(known | {"metric": "share_difference", "value": apart})
    return tidy(lines)


def attribute_table(
    summary: pd.DataFrame, inferred: Sequence[Mapping[str, Any]], seeds: int
) -> pd.DataFrame:
    """The table as texts: a line for each value of the labelled attributes of each set."""
    every = summary[["set", "row", "group"]].drop_duplicates()
    keys = pd.MultiIndex.from_frame(every)
    names = pd.Series([f"{row}: {group}" for _, row, group in keys], keys, name="attribute: value")
    overall = page.where(summary, prompt="")
    table = page.shown_table(overall, names, COLUMNS)
    table.insert(0, "set", keys.get_level_values("set"))
    table.insert(2, "inferred", [_found_words(overall, inferred, key, seeds) for key in keys])
    table["shares (true)"] = [_shares_words(summary, key) for key in keys]
    return table


def _found_words(
    overall: pd.DataFrame,
    inferred: Sequence[Mapping[str, Any]],
    key: tuple[str, ...],
    seeds: int,
) -> str:
    """Which inferred attributes agree best, and with how many seeds they are clear and tied."""
    own = page.where(overall, **dict(zip(KEYS, key, strict=True)))
    ids = [one["id"] for one in inferred if tuple(one[name] for name in KEYS) == key]
    if not ids:
        return NONE
    total = own.set_index("metric")["total"]
    counts = [f"{name} {total[name]:.0f} of {seeds}" for name in ("clear", "tied")]
    return f"{page.listed(dict.fromkeys(ids))}: {page.listed(counts)}"


def _shares_words(summary: pd.DataFrame, key: tuple[str, ...]) -> str:
    """The inferred shares of all prompts, and the true ones."""
    own = page.where(summary, **dict(zip(KEYS, key, strict=True)))
    texts = [
        " ".join(page.number(value) for value in page.where(own, metric=metric)["value"])
        for metric in ("inferred_share", "true_share")
    ]
    return f"{texts[0] or page.NOTHING} ({texts[1]})"
