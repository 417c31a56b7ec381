"""The tables of section 3: what a classifier and a feature extractor say of the images."""

from collections.abc import Iterator, Mapping
from typing import Any

from invdiff.app.report.inputs import ARMS, Inputs
from invdiff.app.report.summary import estimated_gap, paired_reduction
from invdiff.app.report.words import (
    Cell,
    Estimate,
    Table,
    cell,
    count,
    finite,
    number,
    percent,
    scale_name,
    span,
)

BIAS = {
    "normalised": "Normalised",
    "parity_value": "At parity",
    "corrected": "Less chance",
    "error_corrected": "Less errors",
}
MANIFOLDS = ("recall", "coverage", "precision")
BLANK = Cell("\N{EN DASH}")
CURVE = (
    "The gap at each strength, on the same pictures: as the model of the inferred groups estimates "
    "it, which is all that calibration knows, and as the attribute classifier does (its Bias)."
)
NAMES = {"base": "base model", "guided": "guided model"}


def classes(inputs: Inputs) -> tuple[str, ...]:
    """The classes of the attribute whose shares were measured."""
    arms = [inputs.arm(arm, scale) or {} for scale in inputs.scales for arm in ARMS]
    shares = [entry for arm in arms for entry in (arm.get("shares") or {}).values()]
    return tuple(sorted({name for entry in shares for name in entry}))


def attribute(inputs: Inputs) -> str:
    """The name of that attribute, as the classifier calls it."""
    if named := ((inputs.metrics or {}).get("protocol") or {}).get("attribute"):
        return str(named)
    known = ((inputs.metrics or {}).get("classifier") or {}).get("attributes") or {}
    wanted = set(classes(inputs))
    return next((name for name, a in known.items() if wanted <= set(a["classes"])), "attribute")


def shown_classes(inputs: Inputs) -> tuple[str, ...]:
    """Of two classes the more frequent one is enough: the other is what is left."""
    names = classes(inputs)
    if len(names) != 2:
        return names
    base = [inputs.arm("base", scale) or {} for scale in inputs.scales]
    entries = [entry for arm in base for entry in (arm.get("shares") or {}).values()]
    totals = {name: sum(e.get(name, {}).get("count") or 0 for e in entries) for name in names}
    return (max(names, key=lambda name: totals[name]),)


def shares_of(inputs: Inputs, arm: str, scale: str, prompt: str) -> Mapping[str, Any]:
    """Class -> share, count and interval; empty where nothing was measured."""
    return ((inputs.arm(arm, scale) or {}).get("shares") or {}).get(prompt) or {}


def share_prompts(inputs: Inputs, scale: str) -> list[str]:
    """The prompts whose shares were measured at a scale."""
    arms = [inputs.arm(arm, scale) or {} for arm in ARMS]
    return list(dict.fromkeys(prompt for arm in arms for prompt in arm.get("shares") or {}))


def tables(inputs: Inputs) -> Iterator[Table]:
    """Those tables for which the run has measured something."""
    if inputs.has_shares:
        yield _bias_table(inputs)
        yield _share_table(inputs)
        if _measured(inputs, "explicit"):
            yield _explicit_table(inputs)
    elif gap := estimated_gap(inputs):
        yield _gap_table(inputs, gap)
    if points := strength_curve(inputs):
        yield _curve_table(inputs, points)
    if any(_measured(inputs, key) for key in ("fidelity", "frechet", *MANIFOLDS)):
        yield _quality_table(inputs)


def _measured(inputs: Inputs, key: str) -> bool:
    return any((inputs.arm(arm, scale) or {}).get(key) for scale in inputs.scales for arm in ARMS)


def _arms(inputs: Inputs) -> Iterator[tuple[Cell, Mapping[str, Any], str]]:
    """Every model at every scale: the name of the row, what was measured, the scale."""
    for scale in inputs.scales:
        for arm in ARMS:
            if (entry := inputs.arm(arm, scale)) is not None:
                strength = entry.get("strength")
                detail = f"strength {strength:g}" if arm == "guided" and strength else ""
                yield Cell(f"Scale {scale_name(scale)}, {NAMES[arm]}", detail), entry, scale


def _bias_table(inputs: Inputs) -> Table:
    rows = []
    for name, arm, scale in _arms(inputs):
        bias = arm.get("bias") or {}
        row = [name, cell(Estimate.of(bias))]
        row += [Cell(number(bias.get(key))) for key in BIAS]
        rows.append((*row, Cell(count(bias.get("images", arm["images"])))))
        reduction = paired_reduction(inputs, scale)
        if arm is inputs.arm("guided", scale) and reduction.value is not None:
            paired = Cell(
                f"Scale {scale_name(scale)}, difference", "base minus guided, paired by seed"
            )
            rows.append((paired, cell(reduction), *[BLANK] * (1 + len(BIAS))))
    head = ("", "Bias", *BIAS.values(), "Images")
    title = f"Bias of the classifier-estimated {attribute(inputs)} ({', '.join(classes(inputs))})"
    note = (
        f"With {percent(inputs.confidence)} interval. Normalised: 1 = one class only. "
        "At parity: what a balanced sampler would show with as many images, since counts are never "
        "exactly even. Less chance: without the part that so few images add by chance. Less "
        "errors: with the shares corrected for the classifier's measured confusions. With few "
        "images of many prompts Bias can lie above its interval, which is about the sampler and "
        "leaves out what chance adds; the value less chance is always inside."
    )
    return Table(title, head, tuple(rows), note)


def _share_table(inputs: Inputs) -> Table:
    shown = shown_classes(inputs)
    columns = [(scale, arm) for scale in inputs.scales for arm in ARMS if inputs.arm(arm, scale)]
    prompts = dict.fromkeys(p for scale in inputs.scales for p in share_prompts(inputs, scale))
    rows = []
    for prompt in prompts:
        for name in shown:
            entries = [shares_of(inputs, arm, scale, prompt) for scale, arm in columns]
            label = Cell(prompt) if len(shown) == 1 else Cell(prompt, name)
            rows.append((label, *(_share_cell(entry, name) for entry in entries)))
    head = ("Prompt", *(f"Scale {scale_name(scale)}, {arm}" for scale, arm in columns))
    what = f"classified as {shown[0]}" if len(shown) == 1 else "in each class"
    note = f"With {percent(inputs.confidence)} interval and count."
    return Table(f"Share of the images {what}", head, tuple(rows), note)


def _share_cell(entry: Mapping[str, Any], name: str) -> Cell:
    share = Estimate.of(entry.get(name), "share")
    if share.value is None:
        return BLANK
    total = sum(shares.get("count") or 0 for shares in entry.values())
    counted = f"{count(entry[name].get('count'))} of {count(total)}"
    interval = span(share, 0, as_percent=True)
    return Cell(percent(share.value), f"{interval}; {counted}" if interval else counted)


def _explicit_table(inputs: Inputs) -> Table:
    columns = [(scale, arm) for scale in inputs.scales for arm in ARMS if inputs.arm(arm, scale)]
    scales = [scale for scale in inputs.scales if inputs.kept(scale)]
    figures = [(inputs.arm(arm, scale) or {})["explicit"] for scale, arm in columns]
    figures += [inputs.kept(scale) for scale in scales]
    rows = [
        (Cell(prompt, entry["class"]), *(_counted(figure["prompts"][prompt]) for figure in figures))
        for prompt, entry in figures[0]["prompts"].items()
    ]
    rows.append((Cell("all of them"), *map(_counted, figures)))
    head = (
        "Prompt",
        *(f"Scale {scale_name(scale)}, {arm}" for scale, arm in columns),
        *(f"Scale {scale_name(scale)}, kept" for scale in scales),
    )
    note = (
        "Share of the images classified as what their prompt names, with "
        f"{percent(inputs.confidence)} interval and count. Kept: of the seeds with which the base "
        "model shows it, the share with which the guided model does too. Bias leaves these prompts "
        "out."
    )
    return Table("Prompts that name the attribute", head, tuple(rows), note)


def _counted(entry: Mapping[str, Any]) -> Cell:
    share = Estimate.of(entry)
    if share.value is None:
        return BLANK
    counted = f"{count(entry['count'])} of {count(entry['images'])}"
    return Cell(percent(share.value, 1), f"{span(share, 1, as_percent=True)}; {counted}")


def _gap_table(inputs: Inputs, gap: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Table:
    rows = [
        (
            Cell(f"Strength {point['strength']:g}", "the base model" if not at else "chosen"),
            cell(Estimate.of(point, "gap")),
            Cell(count(point.get("images"))),
        )
        for at, point in enumerate(gap)
    ]
    scale = (inputs.calibration or {})["guidance_scale"]
    title = f"Estimated gap between the inferred groups at guidance scale {scale:g}"
    note = (
        f"With {percent(inputs.confidence)} interval; 0 = parity. The groups of generated images "
        "are estimated by the model that inferred them in the training data."
    )
    return Table(title, ("", "Estimated gap", "Images"), tuple(rows), note)


def strength_curve(inputs: Inputs) -> list[Mapping[str, Any]]:
    """The points at which both gaps were measured, in the order of their strengths."""
    points = (inputs.metrics or {}).get("strength_curve") or []
    return sorted(points, key=lambda point: point["strength"])


def _curve_table(inputs: Inputs, points: list[Mapping[str, Any]]) -> Table:
    rows = [
        (
            Cell(f"Strength {point['strength']:g}"),
            cell(Estimate.of(point["estimated"], "gap")),
            cell(Estimate.of(point["classified"])),
            Cell(number(point["classified"]["parity_value"])),
            Cell(count(point["classified"]["images"])),
        )
        for point in points
    ]
    scale = (inputs.calibration or {})["guidance_scale"]
    head = ("", "Estimated gap", "Classifier's gap", "At parity", "Images")
    note = (
        f"{CURVE} With {percent(inputs.confidence)} intervals; 0 = parity. At parity: what a "
        "balanced sampler would show with as many images. Over the prompts in which groups were "
        "found."
    )
    return Table(f"Gap by strength at guidance scale {scale:g}", head, tuple(rows), note)


def _quality_table(inputs: Inputs) -> Table:
    rows = []
    for name, arm, _ in _arms(inputs):
        fidelity = cell(Estimate.of(arm.get("fidelity")), 3)
        known = (Cell(number((arm.get(key) or {}).get("value"))) for key in MANIFOLDS)
        rows.append((name, fidelity, *_distances(arm), *known))
    head = (
        "",
        "Prompt fidelity",
        "Fréchet, balanced",
        "Fréchet, training",
        *map(str.title, MANIFOLDS),
    )
    note = (
        f"Prompt fidelity: share of images that show what the prompt asks for, with "
        f"{percent(inputs.confidence)} interval. Fréchet: distance to the balanced reference and "
        "to the training set, lower is closer; balancing moves a model away from a training set "
        f"that is not balanced. Recall, coverage and precision: against the {_reference(inputs)} "
        "set. Recall is generous where a mode has few images; coverage is not."
    )
    return Table("Quality", head, tuple(rows), note)


def _reference(inputs: Inputs) -> str:
    """The set that recall and precision were measured against."""
    known = [arm.get("recall") or arm.get("precision") or {} for _, arm, _ in _arms(inputs)]
    return next((entry["reference"] for entry in known if entry.get("reference")), "reference")


def _distances(arm: Mapping[str, Any]) -> list[Cell]:
    cells = []
    for reference in ("balanced", "training"):
        entry = (arm.get("frechet") or {}).get(reference) or {}
        if finite(entry.get("value")) is None:
            cells.append(BLANK)
            continue
        images = f"{count(entry.get('images'))} vs {count(entry.get('reference_images'))}"
        cells.append(Cell(number(entry["value"], 1), images))
    return cells
