"""The files of the suite: ``method.md`` to read, ``method.csv`` and ``method.json``."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invdiff.engine.run.environment import environment
from invdiff.engine.storage.files import write_json, write_text
from invdiff.studies.benchmarking import markdown
from invdiff.studies.benchmarking.averages import BASE
from invdiff.studies.benchmarking.markdown import interval, listed, number, ranged, table
from invdiff.studies.benchmarking.method.balanced import ROWS
from invdiff.studies.benchmarking.method.found import DEFAULT
from invdiff.studies.benchmarking.method.oracle import oracle_lines
from invdiff.studies.benchmarking.method.summaries import (
    Result,
    balanced_figures,
    balanced_lines,
    found_figures,
    found_lines,
)
from invdiff.studies.benchmarking.rows import SCALES
from invdiff.studies.benchmarking.suites import METHOD, ORACLE, OURS
from invdiff.studies.benchmarking.suites import ROWS as ALL_ROWS

COLUMNS = ("part", "set", "name", "seed", "prompt", "scale", "figure", "value", "low", "high")
FOUND_HEAD = (
    "set",
    "estimator",
    "skewed prompts found",
    "AUC",
    "balanced accuracy",
    "adjusted Rand index",
    "seed agreement",
    "found in even prompts",
)
FOUND_TERMS = (
    "Discovery against the hidden attribute. A skewed prompt has a label that is rarer than the "
    "others in the training split; AUC and balanced accuracy are about its rarest label, means "
    "over these prompts, and 0.5, which is chance, where nothing was found. Adjusted Rand index: "
    "groups and labels, for sets of more than two labels. Seed agreement: adjusted Rand index of "
    "the groups of two seeds, mean over prompts and pairs of seeds; 1 is the same, also where both "
    "found nothing. In an even prompt there is nothing to find; square brackets are the 95 % "
    "interval of the share (Wilson), which takes prompts and seeds for independent. Round ones are "
    f"the lowest and the highest seed. *{DEFAULT}* is the default; only *labels* reads labels."
)
BALANCED_TERMS = (
    "Bias is 0 at parity. Square brackets are means of the seeds' own 95 % intervals, round ones "
    "the lowest and the highest seed. Attributes are estimated by a classifier. Where a row that "
    "infers groups finds none it trains nothing, and its figures are those of the base model. "
    "`method.json` has the strengths."
)
DISTANCE = "Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet"
ORACLE_HEAD = (
    "set",
    "scale",
    "Bias less the oracle's",
    "cut, of the oracle's",
    "fidelity less the base's",
    f"{DISTANCE} less the base's",
)
ORACLE_TERMS = (
    f"*{OURS}* beside *{ORACLE}* and the base model, means over the seeds that have both and the "
    "lowest and the highest; differences are taken before rounding. The cut is the share of what "
    "the oracle takes off the base's Bias; none where that is less than a balanced sampler would "
    "show."
)


def write(
    out: Path,
    results: Sequence[Result],
    seeds: int,
    missing: Sequence[Mapping[str, Any]],
    unbuilt: Sequence[str],
    seconds: Mapping[str, Mapping[str, float]],
) -> Path:
    """Write the three files into ``out``; returns the first.

    ``missing`` has the ``part``, the ``set``, the ``names`` and ``of`` how many; ``seconds`` the
    wall time of each set and part.
    """
    record = {
        "suite": METHOD,
        "sets": [result.name for result in results],
        "seeds": list(range(seeds)),
        "found": [line for result in results for line in found_lines(result)],
        "balanced": [line for result in results for line in balanced_lines(result)],
        "against_oracle": [line for result in results for line in oracle_lines(result)],
        "images_per_prompt": images_per_prompt(results),
        "missing": missing,
        "not_built": unbuilt,
        "wall_seconds": seconds,
        "changes": {result.name: result.changes for result in results},
        "versions": environment()["versions"],
    }
    write_text(out / "method.csv", as_csv(results))
    write_json(out / "method.json", record)
    return write_text(out / "method.md", page(record))


def images_per_prompt(results: Sequence[Result]) -> dict[str, int]:
    """How many pictures of each prompt the runs of a set drew, for each row, scale and seed."""
    return {
        result.name: result.balanced[0]["protocol"]["images_per_prompt"]
        for result in results
        if result.balanced
    }


def as_csv(results: Sequence[Result]) -> str:
    """One line for each figure."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for result in results:
        writer.writerows(found_figures(result))
    for result in results:
        writer.writerows(balanced_figures(result))
    return text.getvalue()


def page(record: Mapping[str, Any]) -> str:
    """Both tables as far as they are there, what is missing, and how they were made."""
    seeds, blocks = len(record["seeds"]), []
    if record["found"]:
        cells = (_found(line, seeds) for line in record["found"])
        blocks += [table(FOUND_HEAD, cells, words=2), FOUND_TERMS]
    if record["balanced"]:
        blocks += [_balanced_table(record), f"{_images(record)} {BALANCED_TERMS}", _rows()]
    if record["against_oracle"]:
        cells = (_against_oracle(line, seeds) for line in record["against_oracle"])
        blocks += [table(ORACLE_HEAD, cells), ORACLE_TERMS]
    blocks += [_missing(record["missing"])] if record["missing"] else []
    if record["not_built"]:
        names = listed(record["not_built"])
        blocks.append(f"Not built, so not here: {names} (`invdiff data build NAME`).")
    return "\n\n".join([*blocks, _made_by(record)]) + "\n"


def _found(line: Mapping[str, Any], seeds: int) -> list[str]:
    found, alarms = line["found"], line["false_alarms"]
    return [
        line["set"],
        _label(line["estimator"], line, seeds),
        f"{found['count']} of {found['of']}" if found["of"] else markdown.NOTHING,
        *(ranged(line[key], 3) for key in ("auc", "balanced_accuracy", "adjusted_rand")),
        number(line["seed_agreement"], 3),
        f"{alarms['count']} of {alarms['of']} [{alarms['low']:.2f}, {alarms['high']:.2f}]"
        if alarms["of"]
        else markdown.NOTHING,
    ]


def _balanced_table(record: Mapping[str, Any]) -> str:
    names = ("Bias", "fidelity", f"{DISTANCE} to balanced")
    head = ["set", "row", *(f"{name}, {w:g}" for name in names for w in SCALES)]
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in record["balanced"]:
        rows.setdefault((line["set"], line["row"]), []).append(line)
    return table(
        head,
        (
            [name, _label(row, own[0], len(record["seeds"])), *_figures(own)]
            for (name, row), own in rows.items()
        ),
        words=2,
    )


def _against_oracle(line: Mapping[str, Any], seeds: int) -> list[str]:
    few = "" if line["seeds"] == seeds else f" ({line['seeds']} of {seeds} seeds)"
    return [
        line["set"] + few,
        f"{line['scale']:g}",
        ranged(line["difference"]),
        number(line["cut"]),
        ranged(line["fidelity"], 3),
        ranged(line["distance"]),
    ]


def _figures(own: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of one row, whose lines are its scales."""
    return [
        *(interval(line["bias"]) for line in own),
        *(interval(line["fidelity"], 3) for line in own),
        *(ranged(line["frechet"]) for line in own),
    ]


def _label(name: str, line: Mapping[str, Any], seeds: int) -> str:
    known = len(line["seeds"])
    return name if known == seeds else f"{name} ({known} of {seeds} seeds)"


def _images(record: Mapping[str, Any]) -> str:
    counts, parity = record["images_per_prompt"], _parity(record["balanced"])
    told = listed(
        f"{count} ({name}, Bias {number(parity.get(name))})" for name, count in counts.items()
    )
    return (
        "Bias, prompt fidelity and distance to the balanced set at guidance scales "
        f"{listed(f'{scale:g}' for scale in SCALES)}. Images of each prompt, row, scale and seed, "
        f"and what a balanced sampler of as many would show: {told}."
    )


def _parity(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The Bias of a balanced sampler of as many pictures: a set has the same in all its lines."""
    known = ((line["set"], line["bias"]["parity_value"]) for line in lines)
    return {name: value for name, value in known if value is not None}


def _rows() -> str:
    words = {BASE: "the base model as it is"} | {row: ALL_ROWS[row].words for row in ROWS}
    return "\n".join(f"- *{row}*: {told}." for row, told in words.items())


def _missing(missing: Sequence[Mapping[str, Any]]) -> str:
    told = [f"{one['set']}, {one['part']}: {len(one['names'])} of {one['of']}" for one in missing]
    return f"**Not made yet** (the same command goes on): {'; '.join(told)}."


def _made_by(record: Mapping[str, Any]) -> str:
    parts: dict[str, float] = {}
    for times in record["wall_seconds"].values():
        for part, seconds in times.items():
            parts[part] = parts.get(part, 0.0) + seconds
    took = [
        f"{seconds / 60:.0f} minutes of wall time for {name}" for name, seconds in parts.items()
    ]
    versions = record["versions"]
    known = [f"{name} {versions[name]}" for name in markdown.LIBRARIES if versions.get(name)]
    command = f"`invdiff benchmark run --suite {METHOD} --seeds {len(record['seeds'])} --out DIR`"
    return (
        f"Made by {', '.join([command, *took])}, with {listed(known)}.{_changes(record['changes'])}"
    )


def _changes(changes: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The settings that are not the suite's own, each with its sets and parts."""
    where: dict[str, list[str]] = {}
    for name, parts in changes.items():
        for part, own in parts.items():
            if own:
                words = " ".join(f"--{change}" for change in own)
                where.setdefault(words, []).append(f"{name}, {part}")
    told = [f"`{words}` ({'; '.join(places)})" for words, places in where.items()]
    return f" With the settings {'; '.join(told)}." if told else ""
