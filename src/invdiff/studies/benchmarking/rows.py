"""The benchmark: the default recipe beside the other rows of a suite.

``benchmark_rows("faces", seeds, out)`` makes one run folder for each row and seed below ``out``,
all of them resumable, and writes ``table.md``, ``table.csv`` and ``summary.json``.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from invdiff.core.measurement import parity
from invdiff.engine.storage.files import write_json
from invdiff.errors import ConfigError
from invdiff.studies.benchmarking import jobs, measured, page
from invdiff.studies.benchmarking.suites import (
    ABLATION,
    ATTRIBUTES,
    DOWNSTREAM,
    METHOD,
    OURS,
    ROWS,
    SUFFIX,
    SUITES,
)

CONTROLS = next(iter(SUITES))
DISTANCE = "Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet to balanced"
BASE_WORDS = "the base model as it is"


def benchmark_rows(
    name: str,
    seeds: int,
    out: Path,
    suite: str = CONTROLS,
    rows: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> Path:
    """Run every row of a suite with seeds 0..seeds-1; returns the ``table.md`` that it wrote.

    What an earlier call has done is skipped, whichever suite it was for. With ``rows`` only these
    are run, beside the method's own; the tables have what else of the suite is done. ``changes``
    are settings of all rows, such as ``train.steps=400``.

    Raises:
        ConfigError: there is no such benchmark, suite or row, fewer than one seed, or a change that
            is no setting.
        RunError: a run folder below ``out`` was made with other settings.
    """
    jobs.require_benchmark(name, seeds)
    if suite not in SUITES:
        names = ", ".join([*SUITES, DOWNSTREAM, METHOD, ATTRIBUTES])
        raise ConfigError(f"there is no suite {suite!r}: one of {names}")
    jobs.require_changes(name, changes)
    every = [
        jobs.Job(str(out), name, row, seed, tuple(changes))
        for row in SUITES[suite]
        for seed in range(seeds)
    ]
    asked = chosen_rows(suite, rows)
    place = out if suite == CONTROLS else out / suite
    jobs.do_missing([job for job in every if job.row in asked], place / "benchmark.json", "rows")
    shown = [job for job in every if job.row in asked or job.is_done(same=True)]
    found = measured.read_runs(shown)
    beside = measured.comparison(found.rows)
    for seed in range(seeds):
        write_json(jobs.Job(str(out), name, OURS, seed).folder / "comparison.json", beside)
    return write_rows(place, found, suite, changes)


def chosen_rows(suite: str, rows: Sequence[str]) -> set[str]:
    """The rows that were asked for, blanks in their names as they are or as hyphens; all for none.

    The method's own is always among them: the others take its discovery.
    """
    known = {jobs.row_slug(row): row for row in SUITES[suite]}
    unknown = [row for row in rows if jobs.row_slug(row) not in known]
    if unknown:
        raise ConfigError(f"there is no row {unknown[0]!r}: some of {', '.join(known)}")
    return {OURS, *(known[jobs.row_slug(row)] for row in rows)} if rows else set(known.values())


def write_rows(
    out: Path, found: measured.Measured, suite: str, changes: Sequence[str] = ()
) -> Path:
    """Write the files of a suite into ``out``; returns ``table.md``.

    ``changes`` are the settings of all its rows that the command was given.
    """
    rows, summary = found.rows, measured.over_seeds(found.rows)
    names = [name for name in dict.fromkeys(rows["row"]) if name != measured.BASE]
    few = suite == ABLATION and len(names) < len(SUITES[suite])
    some = ["--rows", *map(jobs.row_slug, names)] if few else []
    record = {
        "suite": suite,
        "options": [*some, *(f"--{change}" for change in changes)],
        "rows": summary.to_dict("records"),
        "words": row_words(names, found.suffix),
        "seeds": measured.seeds_of(rows),
        "images_per_prompt": found.protocol["images_per_prompt"],
        "versions": found.protocol["versions"],
        "wall_seconds": jobs.wall_seconds(out / "benchmark.json"),
    }
    low = min(measured.scales_of(rows))
    shares = page.where(summary, row=measured.BASE, metric="share", scale=low)
    classes = shares["group"].nunique()  # the largest Bias depends on it
    asked = shlex.join([*(() if suite == CONTROLS else ("--suite", suite)), *record["options"]])
    context = {
        "measured": _measured_table(rows, summary, shares),
        "most": page.number(parity.largest_bias(classes) if classes > 1 else np.nan, None),
        "chance": page.number(
            measured.number_of(summary, measured.BASE, "bias.parity_value", scale=low)
        ),
        "low": low,
        "strengths": _strengths(rows, low),
        "ours": OURS,
        "found": _found_table(page.where(summary, row=OURS)),
        "command": " ".join(filter(None, [found.protocol["name"], asked])),
    }
    return page.publish(out, rows, record, context, "rows")


def row_words(names: Sequence[str], suffix: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What each row is, in words."""
    words = {measured.BASE: BASE_WORDS} | {name: ROWS[name].words for name in names}
    if suffix and SUFFIX in words:
        words[SUFFIX] += f"; {_suffix_words(suffix)}"
    return words


def _suffix_words(told: Mapping[str, Any]) -> str:
    text = f"drawn with `{told['text']}` after each prompt and measured without it"
    if "known" not in told:
        return text
    strange = told["words"] - told["known"]
    if strange:
        text += (
            f"; {strange} of its {told['words']} words are none that this model's text encoder has "
            "as a token: it reads them in pieces, which a model trained on these prompts alone has "
            "never seen"
        )
    if told["cut"]:
        text += f"; the ends of {told['cut']} of {told['prompts']} prompts do not fit and are cut"
    return text


def _measured_table(
    rows: pd.DataFrame, summary: pd.DataFrame, shares: pd.DataFrame
) -> pd.DataFrame:
    low, *_ = scales = measured.scales_of(rows)
    shown = [
        page.Column(f"Bias, scale {scale:g}", "bias", page.INTERVAL, only={"scale": scale})
        for scale in scales
    ]
    groups = shares.groupby("prompt")["group"].max()  # of two classes one is enough
    for prompt, name in measured.short_names(shares["prompt"].unique()).items():
        only = {"scale": low, "prompt": prompt, "group": groups[prompt]}
        shown.append(page.Column(f"{groups[prompt]}, {name}", "share", page.ENDS, only=only))
    for head, metric, pattern, digits in (
        ("prompt fidelity", "fidelity", page.INTERVAL, 3),
        (DISTANCE, "frechet.balanced", page.RANGE, 2),
        ("recall", "recall", page.RANGE, 3),
        ("coverage", "coverage", page.RANGE, 3),
    ):
        shown.append(page.Column(head, metric, pattern, digits, {"scale": low}))
    return page.shown_table(
        summary, page.labels(rows, ["row"], len(measured.seeds_of(rows)), low), shown
    )


def _found_table(summary: pd.DataFrame) -> pd.DataFrame:
    """What discovery found in each prompt, over the seeds."""
    names = pd.Series(
        measured.short_names(page.where(summary, metric="found")["prompt"]), name="prompt"
    )
    shown = (
        page.Column("groups found", "found", page.COUNTED + " seeds"),
        page.Column("inferred share", "inferred_share", digits=3),
        page.Column("balanced accuracy", "balanced_accuracy", digits=3),
        page.Column("AUC", "auc", digits=3),
    )
    return page.shown_table(summary, names.rename_axis("prompt"), shown)


def _strengths(rows: pd.DataFrame, scale: float) -> str:
    """The strength that each row was drawn with, or one for each seed."""
    used = page.where(rows, metric="strength", scale=scale)
    told = []
    for name, own in used[used["row"] != measured.BASE].groupby("row", sort=False)["value"]:
        texts = [page.number(value, None) for value in own]
        told.append(f"{name} {page.listed(texts if len(set(texts)) > 1 else texts[:1])}")
    return "; ".join(told)
