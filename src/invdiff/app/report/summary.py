"""The findings at the top of the report, one sentence each, every number with its interval."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from invdiff.app.report import plots
from invdiff.app.report.inputs import Inputs
from invdiff.app.report.sides import against
from invdiff.app.report.words import (
    Estimate,
    count,
    listed,
    number,
    percent,
    plural,
    quoted,
    scale_name,
    significant,
    span,
    with_interval,
)


@dataclass(frozen=True)
class Finding:
    """One sentence and the word or two that say what it is about."""

    lead: str
    text: str


def findings(inputs: Inputs) -> list[Finding]:
    """What the run shows, most important first."""
    found = [_what_was_found(inputs)]
    if not inputs.trained:
        found.append(_nothing_was_trained(inputs))
    found += [_bias(inputs, scale) for scale in inputs.scales if _both(inputs, scale, "bias")]
    if not inputs.has_shares and inputs.trained and (gap := estimated_gap(inputs)):
        found.append(_gap(inputs, gap))
    found += _quality(inputs)
    if (inputs.training or {}).get("certificate"):
        found.append(_certificate(inputs))
    return found


def _what_was_found(inputs: Inputs) -> Finding:
    names = []
    for prompt in inputs.found:
        share = against(inputs.prompts[prompt]["groups"])
        interval = span(share, 0, as_percent=True)
        names.append(
            f"{quoted(prompt)} ({percent(share.value)} of its images"
            + (f", {interval})" if interval else ")")
        )
    rest = [quoted(prompt) for prompt in inputs.prompts if prompt not in inputs.found]
    total = plural(len(inputs.prompts), "prompt")
    if not names:
        return Finding("Found", f"Nothing to balance was found in any of {total}.")
    text = (
        f"In {len(names)} of {total} {_there_are(inputs)} that the model works against: "
        f"{listed(names)}."
    )
    return Finding("Found", text + (f" Nothing to balance in {listed(rest)}." if rest else ""))


def _there_are(inputs: Inputs) -> str:
    if any(len(inputs.prompts[prompt]["groups"]) > 2 for prompt in inputs.found):
        return "there are inferred groups"
    return "there is an inferred group"


def _nothing_was_trained(inputs: Inputs) -> Finding:
    if inputs.training is None:
        return Finding("Guidance", "No guidance has been trained in this run.")
    reason = inputs.training.get("reason") or "there was nothing to balance"
    return Finding("Guidance", f"None was trained: {reason}. The base model is unchanged.")


def _bias(inputs: Inputs, scale: str) -> Finding:
    base, guided = inputs.arm("base", scale), inputs.arm("guided", scale)
    assert base, "chosen by _both"
    assert guided, "chosen by _both"
    before, after = Estimate.of(base["bias"]), Estimate.of(guided["bias"])
    paired = paired_reduction(inputs, scale)
    text = _moved(inputs, before, after)
    if paired.has_interval:
        text += f"; paired by seed, the difference is {number(paired.value)} ({span(paired)})"
        if (paired.low or 0) <= 0 <= (paired.high or 0):
            text += ", so no change is shown"
    text += f". Measured on {count(guided['images'])} images by each model"
    parity = guided["bias"].get("parity_value")
    text += f"; a balanced sampler would show {number(parity)} with as many." if parity else "."
    return Finding(f"Bias at guidance scale {scale_name(scale)}", text)


def _moved(inputs: Inputs, before: Estimate, after: Estimate) -> str:
    verb = "Reduced" if (after.value or 0) < (before.value or 0) else "Went"
    ends = (with_interval(estimate, inputs.confidence) for estimate in (before, after))
    return f"{verb} from " + " to ".join(ends)


def paired_reduction(inputs: Inputs, scale: str) -> Estimate:
    """Bias of the base model minus Bias of the guided model, on the same seeds."""
    paired = ((inputs.metrics or {}).get("paired") or {}).get(scale) or {}
    return Estimate.of(paired.get("bias_reduction"))


def _both(inputs: Inputs, scale: str, key: str) -> bool:
    arms = [inputs.arm(arm, scale) or {} for arm in ("base", "guided")]
    return all(Estimate.of(arm.get(key)).value is not None for arm in arms)


def estimated_gap(inputs: Inputs) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """The points of the calibration at strength 0 and at the chosen strength."""
    curve = (inputs.calibration or {}).get("curve") or []
    if inputs.calibration is None or not curve:
        return None
    chosen = inputs.calibration["strength"]
    before = min(curve, key=lambda point: abs(point["strength"]))
    return before, min(curve, key=lambda point: abs(point["strength"] - chosen))


def _gap(inputs: Inputs, gap: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Finding:
    before, after = (Estimate.of(point, "gap") for point in gap)
    scale = scale_name((inputs.calibration or {})["guidance_scale"])
    text = (
        f"{_moved(inputs, before, after)}, as estimated by the model that inferred the groups. "
        "No attribute classifier was used, so this is not an independent measurement."
    )
    return Finding(f"Estimated gap at guidance scale {scale}", text)


def _quality(inputs: Inputs) -> list[Finding]:
    found = []
    fidelity = [_fidelity(inputs, s) for s in inputs.scales if _both(inputs, s, "fidelity")]
    if fidelity:
        text = f"Share of images that show what the prompt asks for: {'; '.join(fidelity)}."
        found.append(Finding("Prompt fidelity", text))
    kept = [_kept(inputs, scale) for scale in inputs.scales if inputs.kept(scale)]
    if kept:
        text = (
            "Where the prompt names the class and the base model shows it, the guided model keeps "
            f"it with the same seed: {'; '.join(kept)}."
        )
        found.append(Finding("Prompts that name the attribute", text))
    distance = [
        f"from {number(before, 1)} to {number(after, 1)} at guidance scale {scale_name(scale)}"
        for scale in inputs.scales
        for before, after in [balanced_distance(inputs, scale)]
        if before is not None and after is not None
    ]
    if distance:
        text = f"The Fréchet distance to the balanced reference set went {listed(distance)}"
        found.append(Finding("Distance to a balanced set", text + " (lower is closer)."))
    return found


def _fidelity(inputs: Inputs, scale: str) -> str:
    entries = [(inputs.arm(arm, scale) or {})["fidelity"] for arm in ("base", "guided")]
    before, after = (
        with_interval(Estimate.of(entry), inputs.confidence, 1, as_percent=True)
        for entry in entries
    )
    return f"at guidance scale {scale_name(scale)}, {before} before and {after} after"


def _kept(inputs: Inputs, scale: str) -> str:
    entry = inputs.kept(scale)
    share = with_interval(Estimate.of(entry), inputs.confidence, 1, as_percent=True)
    counted = f"{count(entry['count'])} of {count(entry['images'])}"
    return f"{share}, {counted}, at guidance scale {scale_name(scale)}"


def balanced_distance(inputs: Inputs, scale: str) -> tuple[float | None, ...]:
    """The distance to the balanced reference, of the base and of the guided model."""
    arms = [inputs.arm(arm, scale) or {} for arm in ("base", "guided")]
    return tuple(Estimate.of((arm.get("frechet") or {}).get("balanced")).value for arm in arms)


def _certificate(inputs: Inputs) -> Finding:
    certificate = (inputs.training or {})["certificate"]
    before, after = (significant(certificate[when]["bound"], 4) for when in ("before", "after"))
    text = (
        "However the inferred groups are mixed, the denoising risk is bounded by "
        f"{after} for the guided model and by {before} for the base model."
    )
    return Finding("Certificate", text)


def headline(inputs: Inputs) -> Markup | None:
    """Bias before and after for each guidance scale; the estimated gap without a classifier."""
    rows = [
        plots.Row(
            f"guidance scale {scale_name(scale)}",
            Estimate.of((inputs.arm("base", scale) or {}).get("bias")),
            Estimate.of((inputs.arm("guided", scale) or {}).get("bias")),
            ((inputs.arm("base", scale) or {}).get("bias") or {}).get("parity_value"),
        )
        for scale in inputs.scales
        if inputs.has_shares
    ]
    axis = "Bias (0 = parity, 1 = one class only)"
    if not rows and (gap := estimated_gap(inputs)):
        scale = scale_name((inputs.calibration or {})["guidance_scale"])
        before, after = (Estimate.of(point, "gap") for point in gap)
        rows = [plots.Row(f"guidance scale {scale}", before, after)]
        axis = "estimated gap between the inferred groups (0 = parity)"
    if not rows:
        return None
    alt = "; ".join(
        f"{row.label}: {with_interval(row.before)} before, {with_interval(row.after)} after"
        for row in rows
    )
    return plots.dumbbell(rows, "headline", f"{axis}. {alt}", axis, limits=(0.0, 1.0))
