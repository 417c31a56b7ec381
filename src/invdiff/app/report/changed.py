"""Section 3: the same seeds without and with guidance, in pictures, shares and quality."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from invdiff.app.report import montage, plots
from invdiff.app.report.found import PICTURED_PROMPTS
from invdiff.app.report.inputs import ARMS, Inputs
from invdiff.app.report.measured import (
    CURVE,
    classes,
    share_prompts,
    shares_of,
    shown_classes,
    strength_curve,
    tables,
)
from invdiff.app.report.sides import side
from invdiff.app.report.summary import estimated_gap
from invdiff.app.report.words import Estimate, Table, count, percent, scale_name


@dataclass(frozen=True)
class Pictures:
    """The pictures of one prompt at one guidance scale, one grid a model."""

    scale: str
    grids: tuple[montage.Grid, ...]


@dataclass(frozen=True)
class Plot:
    """A drawing with its caption."""

    drawing: Markup
    caption: str


@dataclass(frozen=True)
class Changed:
    """The whole section."""

    pictures: tuple[tuple[str, tuple[Pictures, ...]], ...]
    without_pictures: int
    shares: tuple[Plot, ...]
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...]


def section(inputs: Inputs) -> Changed:
    """Everything that was measured on generated images."""
    prompts = sampled_prompts(inputs)
    shown = prompts[:PICTURED_PROMPTS]
    pictures = ((prompt, _pictures(inputs, prompt, len(shown))) for prompt in shown)
    return Changed(
        pictures=tuple((prompt, grids) for prompt, grids in pictures if grids),
        without_pictures=len(prompts) - len(shown),
        shares=(*_share_plots(inputs), *_estimated_shares(inputs)),
        tables=tuple(tables(inputs)),
        plots=tuple(_plots(inputs)),
    )


def sampled_prompts(inputs: Inputs) -> list[str]:
    """The prompts that images were made for, in the order of the samples."""
    return list(dict.fromkeys((inputs.samples or {}).get("prompt") or ()))


def _pictures(inputs: Inputs, prompt: str, prompts: int) -> tuple[Pictures, ...]:
    scales = sorted(set((inputs.samples or {})["scale"]))
    seeds = montage.seeds_shown(prompts * len(scales) * len(ARMS))
    shown = [(scale, montage.generated(inputs, prompt, scale, seeds)) for scale in scales]
    return tuple(Pictures(scale_name(scale), tuple(g.values())) for scale, g in shown if g)


def _share_plots(inputs: Inputs) -> Iterator[Plot]:
    shown = shown_classes(inputs)
    for at, scale in enumerate(inputs.scales if shown else ()):
        rows = [
            plots.Row(
                prompt if len(shown) == 1 else f"{prompt}: {name}",
                Estimate.of(shares_of(inputs, "base", scale, prompt).get(name), "share"),
                Estimate.of(shares_of(inputs, "guided", scale, prompt).get(name), "share"),
            )
            for prompt in share_prompts(inputs, scale)
            for name in shown
        ]
        what = f"share classified as {shown[0]}" if len(shown) == 1 else "share of the images"
        alt = f"Shares at guidance scale {scale_name(scale)}, base and guided, as in the table"
        parity = (1 / len(classes(inputs)), "parity")
        drawing = plots.dumbbell(rows, f"shares{at}", alt, what, (0.0, 1.0), parity, percent)
        yield Plot(drawing, f"Guidance scale {scale_name(scale)}")


def _estimated_shares(inputs: Inputs) -> Iterator[Plot]:
    """Without a classifier: what the model of the groups makes of generated images."""
    if inputs.has_shares or not (gap := estimated_gap(inputs)) or not gap[0].get("shares"):
        return
    before, after = (point.get("shares") or {} for point in gap)
    several = any(isinstance(share, list) for share in before.values())
    what = f"estimated share of {'each' if several else 'the'} group"
    what += "" if several else " against the model"
    rows = [
        row
        for prompt in before
        for row in _share_rows(inputs, prompt, before[prompt], after.get(prompt))
    ]
    alt = f"{what}, base and guided: " + "; ".join(
        f"{row.label} {percent(row.before.value)} and {percent(row.after.value)}" for row in rows
    )
    drawing = plots.dumbbell(
        rows, "estimated", alt, what, (0.0, 1.0), _wanted(inputs, before), percent
    )
    yield Plot(drawing, f"Guidance scale {(inputs.calibration or {})['guidance_scale']:g}")


def _share_rows(inputs: Inputs, prompt: str, before: Any, after: Any) -> Iterator[plots.Row]:
    """The group against the model, or each of several."""
    if not isinstance(before, list):
        yield plots.Row(prompt, Estimate(before), Estimate(after))
        return
    groups = inputs.prompts[prompt]["groups"]
    for group, (old, new) in enumerate(zip(before, after, strict=True)):
        yield plots.Row(f"{prompt}: {side(groups, group)}", Estimate(old), Estimate(new))


def _wanted(inputs: Inputs, shares: Mapping[str, Any]) -> tuple[float, str] | None:
    """Where a share should be: nowhere in particular where several are wanted uneven."""
    section = inputs.config.discover
    several = [len(share) for share in shares.values() if isinstance(share, list)]
    if several:
        return None if section.target else (1 / several[0], "parity")
    share = section.wanted_share
    return share, "parity" if share == 0.5 else "wanted"


def _plots(inputs: Inputs) -> Iterator[Plot]:
    entry = inputs.calibration
    if entry and entry.get("curve"):
        alt = (
            f"Estimated gap over the strength; strength {entry['strength']:g} was chosen, the "
            f"tolerance is {entry['tolerance']:g}"
        )
        caption = (
            f"Calibration at guidance scale {entry['guidance_scale']:g}, "
            f"{count(entry.get('images_per_prompt'))} images a prompt. Strength 1, an ordinary "
            "LoRA, is kept when its estimated gap is within the tolerance; otherwise the smallest "
            "strength that is within it, or the one with the smallest gap."
        )
        yield Plot(plots.calibration(entry, alt), caption)
    if points := strength_curve(inputs):
        alt = "Both gaps over the strength, as in the table"
        yield Plot(plots.two_gaps(points, alt), CURVE)
    training = inputs.training or {}
    if inputs.trained and (curve := training.get("curve")):
        alt = f"Training loss over {count(training['steps'])} steps, running mean"
        caption = (
            f"Training: {count(training['steps'])} steps, running mean of the loss; "
            f"{count(training['parameters'])} trained parameters beside "
            f"{count(training['base_parameters'])} frozen ones."
        )
        yield Plot(plots.training(curve, alt), caption)
