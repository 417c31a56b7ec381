"""The tables of a suite of other ways to balance a model: what each costs and what it does.

They show what the runs have measured; nothing is measured here.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from invdiff.core.measurement import parity
from invdiff.engine.storage.files import write_json, write_text
from invdiff.studies.benchmarking import markdown, tables
from invdiff.studies.benchmarking.averages import (
    BASE,
    Line,
    at,
    ends,
    figures,
    label,
    lines,
    scales,
    seeds,
)
from invdiff.studies.benchmarking.suites import OURS, ROWS

COLUMNS = {
    "fidelity": ("prompt fidelity", 3),
    "frechet": ("Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet to balanced", 2),
    "recall": ("recall", 3),
    "coverage": ("coverage", 3),
}
"""Figure -> head of its column, digits."""
RANGES = ("frechet", "recall", "coverage")
BASE_WORDS = "the base model as it is"

Runs = Sequence[Mapping[str, Any]]


def write(out: Path, rows: Runs, suite: str, options: Sequence[str] = ()) -> Path:
    """Write ``table.md``, ``table.csv`` and ``summary.json`` into ``out``; returns the first.

    ``options`` are the words of the command beside name, suite and seeds.
    """
    seconds = tables.wall_seconds(out)
    found = tables.summary(rows, OURS)
    known = {(line.name, float(scale)): ends(line, scale) for line, scale in _cells(rows)}
    record = found | {
        "suite": suite,
        "options": list(options),
        "rows": [entry | {"ends": known[entry["name"], entry["scale"]]} for entry in found["rows"]],
        "words": _words(rows),
        "wall_seconds": seconds,
    }
    write_text(out / "table.csv", tables.as_csv(rows, OURS))
    write_json(out / "summary.json", record)
    return write_text(out / "table.md", page(rows, suite, seconds, options))


def page(rows: Runs, suite: str, seconds: float | None = None, options: Sequence[str] = ()) -> str:
    """The table, what its figures are, what its rows are, and how it was made."""
    command = shlex.join(["--suite", suite, *options])
    blocks = [
        _measured(rows),
        _terms(rows),
        "\n".join(f"- *{name}*: {words}." for name, words in _words(rows).items()),
        markdown.made_by(rows, seconds, f" {command}"),
    ]
    return "\n\n".join(blocks) + "\n"


def _measured(rows: Runs) -> str:
    low, *_ = scales(rows)
    head = ["row", *(f"Bias, scale {float(scale):g}" for scale in scales(rows))]
    count = len(seeds(rows))
    return markdown.table(
        head + [name for name, _ in COLUMNS.values()],
        (
            [label(line, low, count), *_biases(line, scales(rows)), *_others(line, low)]
            for line in lines(rows, OURS)
        ),
    )


def _biases(line: Line, known: Sequence[str]) -> list[str]:
    return [markdown.interval(figures(line, scale)["bias"]) for scale in known]


def _others(line: Line, scale: str) -> Iterator[str]:
    means, beside = figures(line, scale), ends(line, scale)
    for name, (_, digits) in COLUMNS.items():
        shown = markdown.ranged if name in RANGES else markdown.interval
        yield shown({"value": means[name], **beside[name]}, digits)


def _terms(rows: Runs) -> str:
    low, *_ = scales(rows)
    base, *others = lines(rows, OURS)
    chance = markdown.number(figures(base, low)["parity_value"])
    most = markdown.number(_largest_bias(base, low), None)
    used = "; ".join(f"{line.name} {markdown.strengths(line, low)}" for line in others)
    return (
        f"{rows[0]['protocol']['images_per_prompt']} images of each prompt, row, scale and seed; "
        f"{markdown.over_seeds(seeds(rows))} Bias is 0 at parity and {most} with one class "
        f"only; a balanced sampler would show {chance} with as many images. Square brackets are "
        "intervals, round ones the lowest and the highest seed. Fidelity, distance, recall and "
        f"coverage are those of guidance scale {float(low):g}. Attributes are estimated by a "
        "classifier. "
        f"Strengths, by seed: {used}."
    )


def _largest_bias(line: Line, scale: str) -> float | None:
    """The Bias of one class only, which depends on how many there are."""
    shares: Mapping[str, Mapping[str, Any]] = next(at(line.arms, scale, "shares"), {})
    classes = {name for entry in shares.values() for name in entry}
    return parity.largest_bias(len(classes)) if len(classes) > 1 else None


def _words(rows: Runs) -> dict[str, str]:
    """What each row is, in words."""
    words = {BASE: BASE_WORDS}
    for run in rows:
        more = f"; {_of_suffix(run['prompt_suffix'])}" if run["prompt_suffix"] else ""
        words[run["row"]] = ROWS[run["row"]].words + more
    return words


def _of_suffix(told: Mapping[str, Any]) -> str:
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


def _cells(rows: Runs) -> Iterator[tuple[Line, str]]:
    for line in lines(rows, OURS):
        for scale in scales(rows):
            yield line, scale
