"""The benchmark's page, ``table.md``: what each row shows, what was found, on which terms."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from invdiff.studies.benchmarking.averages import (
    Line,
    discovered,
    figures,
    label,
    lines,
    scales,
    seeds,
    short_names,
)

LIBRARIES = ("invdiff", "torch", "diffusers", "transformers", "peft", "numpy")
NOTHING = "\N{EN DASH}"


def page(rows: Sequence[Mapping[str, Any]], ours: str, seconds: float | None = None) -> str:
    """Both tables and what they depend on, as Markdown."""
    blocks = [
        _measured(rows, ours),
        _terms(rows, ours),
        f"Discovery of the row *{ours}*, which read no label:",
        _found(rows, ours),
        _setting(rows, seconds),
    ]
    return "\n\n".join(blocks) + "\n"


def _measured(rows: Sequence[Mapping[str, Any]], ours: str) -> str:
    shown = lines(rows, ours)
    low, *others = scales(rows)
    shares = figures(shown[0], low)["shares"]
    names = short_names(shares)
    head = ["row", *(f"Bias, scale {float(scale):g}" for scale in (low, *others))]
    head += [f"{share['class']}, {names[prompt]}" for prompt, share in shares.items()]
    head += ["prompt fidelity", "Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet to balanced"]
    head += ["recall", "coverage"]
    count = len(seeds(rows))
    return table(
        head, ([label(line, low, count), *_row(line, low, others, list(shares))] for line in shown)
    )


def _row(line: Line, low: str, others: Sequence[str], prompts: Sequence[str]) -> list[str]:
    found = figures(line, low)
    return [
        *(interval(figures(line, scale)["bias"]) for scale in (low, *others)),
        *(_range(found["shares"].get(prompt, {})) for prompt in prompts),
        number(found["fidelity"], 3),
        number(found["frechet"]),
        number(found["recall"], 3),
        number(found["coverage"], 3),
    ]


def _terms(rows: Sequence[Mapping[str, Any]], ours: str) -> str:
    """What the figures are."""
    base, *guided = lines(rows, ours)
    low, *_ = scales(rows)
    chance = number(figures(base, low)["parity_value"])
    used = "; ".join(f"{line.name} {strengths(line, low)}" for line in guided)
    return (
        f"{rows[0]['protocol']['images_per_prompt']} images of each prompt, row, scale and seed; "
        f"{over_seeds(seeds(rows))} Bias is 0 at parity and 1 with one class only; a balanced "
        f"sampler would show {chance} with as many images. Shares, fidelity, distance, recall "
        f"and coverage are those of guidance scale {float(low):g}. Attributes are estimated by a "
        f"classifier. "
        f"Strengths, by seed: {used}."
    )


def over_seeds(known: Sequence[int]) -> str:
    """Which seeds, and what means and intervals are."""
    if len(known) == 1:
        return f"seed {known[0]}. Intervals are 95 % bootstrap intervals."
    return (
        f"seeds {listed(known)}. Figures are means over the seeds, intervals the means of the "
        "seeds' own 95 % bootstrap intervals, ranges the lowest and the highest seed."
    )


def strengths(line: Line, scale: str) -> str:
    """The strength that a line was drawn with, or one for each seed."""
    used = [number(strength, None) for strength in figures(line, scale)["strengths"]]
    return listed(used if len(set(used)) > 1 else used[:1])


def _found(rows: Sequence[Mapping[str, Any]], ours: str) -> str:
    found = discovered(rows, ours)
    names = short_names(found)
    head = ["prompt", "groups found", "inferred share", "balanced accuracy", "AUC"]
    return table(
        head,
        (
            [
                names[prompt],
                f"{entry['found']} of {entry['seeds']} seeds",
                *(number(entry[key], 3) for key in ("share", "balanced_accuracy", "auc")),
            ]
            for prompt, entry in found.items()
        ),
    )


def _setting(rows: Sequence[Mapping[str, Any]], seconds: float | None) -> str:
    """How to read the second table, how to make both, with what."""
    return (
        "Inferred share: of the group against the model. Balanced accuracy and AUC: how well the "
        "groups agree with the rarest label, 0.5 by chance; none where labels are even. "
        f"{made_by(rows, seconds)}"
    )


def made_by(rows: Sequence[Mapping[str, Any]], seconds: float | None, words: str = "") -> str:
    """The command, with ``words`` after the benchmark's name, its time and the versions."""
    protocol = rows[0]["protocol"]
    known = {name: protocol["versions"].get(name) for name in LIBRARIES}
    versions = [f"{name} {version}" for name, version in known.items() if version]
    took = "" if seconds is None else f", {seconds / 60:.0f} minutes of wall time"
    return (
        f"Made by `invdiff benchmark run {protocol['name']}{words} --seeds {len(seeds(rows))} "
        f"--out DIR`{took}, with {listed(versions)}."
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A Markdown table whose columns but the first ``words`` are numbers."""
    marks = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows))


def interval(figure: Mapping[str, float | None], digits: int = 2) -> str:
    """A value and its interval, as in 0.07 [0.02, 0.12]."""
    value, low, high = (number(figure[key], digits) for key in ("value", "low", "high"))
    return value if NOTHING in (value, low, high) else f"{value} [{low}, {high}]"


def ranged(figure: Mapping[str, float | None], digits: int = 2) -> str:
    """A mean and the lowest and highest of what it is of, as in 0.07 (0.02..0.12)."""
    value, low, high = (number(figure[key], digits) for key in ("value", "low", "high"))
    return value if low == high else f"{value} ({low}..{high})"


def _range(share: Mapping[str, Any]) -> str:
    low, high = number(share.get("lowest")), number(share.get("highest"))
    return low if low == high else f"{low}..{high}"


def number(value: float | None, digits: int | None = 2) -> str:
    """A number with so many digits, or as short as it is."""
    if value is None:
        return NOTHING
    return f"{value:g}" if digits is None else f"{value:z.{digits}f}"  # z: no minus before 0.00


def listed(items: Iterable[Any]) -> str:
    """The items with commas between them."""
    return ", ".join(map(str, items))
