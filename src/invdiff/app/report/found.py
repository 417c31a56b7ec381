"""Section 2: which groups discovery inferred, and how sure it can be of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from invdiff.app.report import montage, plots
from invdiff.app.report.inputs import Inputs
from invdiff.app.report.sides import against
from invdiff.app.report.words import (
    Cell,
    Estimate,
    Table,
    cell,
    count,
    finite,
    number,
    percent,
    with_interval,
)
from invdiff.data.samples import Samples

PICTURED_PROMPTS = 8  # pictures of more prompts would make the file too large to send
UNLABELLED = "It read no label of any image."
KNOWLEDGE = {"labels": "It took the groups from the labels of the data: a reference, no inference."}
SCORES = {
    "excess": "how much harder an image is to denoise with its own prompt than without any",
    "contrast": "how much harder an image is to denoise with one prompt than with the others",
    "loss": "how hard an image is to denoise with its own prompt",
}


@dataclass(frozen=True)
class PromptFound:
    """What was found for one prompt, with pictures and the profile where there are any."""

    prompt: str
    found: bool
    sentence: str
    grids: tuple[montage.Grid, ...]
    profile: Markup | None


@dataclass(frozen=True)
class Found:
    """The whole section."""

    how: str
    table: Table
    prompts: tuple[PromptFound, ...]
    without_pictures: int
    reliability: Markup | None
    stability: str
    ranking: Table | None
    labels: Table | None


def section(inputs: Inputs, samples: Samples | None) -> Found:
    """Discovery in words, tables and pictures; no pictures without ``samples``."""
    shown = list(inputs.prompts.items())[:PICTURED_PROMPTS]
    return Found(
        how=_how(inputs.discovery),
        table=_overview(inputs),
        prompts=tuple(
            _prompt(inputs, samples, at, prompt, entry) for at, (prompt, entry) in enumerate(shown)
        ),
        without_pictures=len(inputs.prompts) - len(shown),
        reliability=_reliability(inputs.discovery),
        stability=_stability(inputs.discovery),
        ranking=_ranking(inputs.discovery),
        labels=_labels(inputs),
    )


def _how(discovery: Mapping[str, Any]) -> str:
    name, images = discovery["estimator"], count(discovery["images_scored"])
    text = f"The {name} estimator looked at {images} images. " + KNOWLEDGE.get(name, UNLABELLED)
    if meaning := SCORES.get(discovery.get("score") or ""):
        text += f" Its score is the {discovery['score']}: {meaning}."
    if candidate := discovery.get("candidate"):
        number_of = discovery.get("candidates")
        text += f" Of {count(number_of)} candidate splits it chose" if number_of else " It chose"
        text += f": {candidate}."
    return text


def _overview(inputs: Inputs) -> Table:
    rows = []
    most = max(2, *(len(entry["groups"]) for entry in inputs.prompts.values()))
    for prompt, entry in inputs.prompts.items():
        groups = entry["groups"] if entry["found"] else ()
        shares = [_share(group, most) for group in groups]
        result = "found" if entry["found"] else "nothing to balance"
        images = Cell(count(entry["images"]), f"{count(entry['scored'])} scored")
        explained = Cell(percent(entry.get("explained"), 1), _p_value(entry))
        blank = [Cell("\N{EN DASH}")] * (most - len(shares))
        rows.append((Cell(prompt), Cell(result), images, *shares, *blank, explained))
    named = ("With the model", "Against the model")
    columns = named if most == 2 else [f"Group {group}" for group in range(most)]
    head = ("Prompt", "Result", "Images", *columns, "Explained")
    note = (
        "Share of the prompt's training images in each group, with "
        f"{percent(inputs.confidence)} interval, and the share of the score's variance that the "
        "split explains."
    )
    if most > 2:
        note += " The higher its number, the more a group goes against the model."
    return Table("Inferred groups", head, tuple(rows), note)


def _share(group: Mapping[str, Any], groups: int) -> Cell:
    """The share of a group, with its interval or the label that it was given by."""
    if groups > 2 and (label := group.get("label")):
        return Cell(percent(group["share"]), label)
    return cell(Estimate.of(group, "share"), 0, as_percent=True)


def _p_value(entry: Mapping[str, Any]) -> str:
    value = finite(entry.get("p_value"))
    if value is None:
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {number(value, 3)}"


def _prompt(
    inputs: Inputs, samples: Samples | None, at: int, prompt: str, entry: Mapping[str, Any]
) -> PromptFound:
    grids = [
        montage.most_certain(inputs, samples, prompt, group)
        for group in range(len(entry["groups"]))
        if samples is not None and entry["found"]
    ]
    drawn = None
    if entry["found"] and (profile := entry.get("profile")):
        sides = "with and against the model" if "with" in profile else "of each group"
        alt = f"Mean excess over the noise levels, {sides}, prompt: {prompt}"
        drawn = plots.profile(profile, f"profile{at}", alt)
    sentence = _sentence(inputs, entry)
    return PromptFound(prompt, entry["found"], sentence, tuple(g for g in grids if g), drawn)


def _sentence(inputs: Inputs, entry: Mapping[str, Any]) -> str:
    p_value = _p_value(entry)
    if not entry["found"]:
        note = entry.get("note") or "nothing to balance"
        tail = f" ({p_value}, {count(entry['scored'])} images scored)" if p_value else ""
        return note[0].upper() + note[1:] + tail + "."
    share = against(entry["groups"])
    several = len(entry["groups"]) > 2
    groups = "inferred groups other than group 0" if several else "inferred group"
    return (
        f"{with_interval(share, inputs.confidence, 0, as_percent=True)} of the images are in the "
        f"{groups} that the model works against. The split explains "
        f"{percent(entry.get('explained'), 1)} of the variance of the score"
        + (f" ({p_value})." if p_value else ".")
    )


def _reliability(discovery: Mapping[str, Any]) -> Markup | None:
    levels, values = discovery.get("levels") or (), discovery.get("reliability") or ()
    known = [value for value in values if finite(value) is not None]
    if len(levels) != len(values) or not known:
        return None
    alt = f"Reliability of the score per noise level, from {min(known):.2f} to {max(known):.2f}"
    return plots.reliability(levels, values, alt)


def _stability(discovery: Mapping[str, Any]) -> str:
    stability = discovery.get("stability") or {}
    agreement = finite(stability.get("agreement"))
    if agreement is None:
        return ""
    return (
        f"Inferred again from {count(stability.get('runs'))} disjoint sets of noise draws, the "
        f"groups agree to {number(agreement)} (1 = identical)."
    )


def _ranking(discovery: Mapping[str, Any]) -> Table | None:
    rows = [
        (
            Cell(entry["name"], "chosen" if entry["name"] == discovery.get("candidate") else ""),
            Cell(f"{entry['worth']:.3f}"),
        )
        for entry in discovery.get("ranking") or ()
        if "worth" in entry  # records of earlier versions do not say what they rank by
    ]
    note = f"Worth: {discovery.get('ranked_by', '')}."
    head = ("Candidate", "Worth")
    return Table("The best candidate splits", head, tuple(rows), note) if rows else None


def _labels(inputs: Inputs) -> Table | None:
    """Only where the data carries labels; they are read after the groups are fixed."""
    measured = (inputs.metrics or {}).get("groups_vs_labels")
    if not measured:
        return None
    accuracy, area = measured.get("balanced_accuracy") or {}, measured.get("auc") or {}
    columns = {"Balanced accuracy": accuracy, "Area under the curve": area}
    note = "The labels were read after the groups were fixed. 1 = the groups are the labels."
    if any(len(entry["groups"]) > 2 for entry in inputs.prompts.values()):
        columns["Adjusted Rand index"] = measured.get("adjusted_rand") or {}
        columns["Accuracy, matched"] = measured.get("matched_accuracy") or {}
        note += " The first two are about the rarest label, the others about all."
    rows = [
        (Cell(prompt), *(Cell(number(values.get(prompt))) for values in columns.values()))
        for prompt in dict.fromkeys([*accuracy, *area])
    ]
    head = ("Prompt", *columns)
    return Table("Inferred groups against the labels of the data", head, tuple(rows), note)
