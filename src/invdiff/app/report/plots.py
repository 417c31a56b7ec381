"""The drawings of the report: values with their intervals, before and after on one line."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from invdiff.app.report import svg
from invdiff.app.report.words import Estimate, number, percent

LABEL_WIDTH = 44  # characters that fit above a row
SMALL = 0.1  # an axis that stays below this counts in thousandths
ROW_HEIGHT = 0.48  # inches
LEFT, TOP = 0.52, 0.3  # inches beside and above a curve, for its numbers and the name of its axis


@dataclass(frozen=True)
class Row:
    """One line of a dumbbell plot; ``reference`` is the value to compare with, a small tick."""

    label: str
    before: Estimate
    after: Estimate
    reference: float | None = None


def dumbbell(
    rows: Sequence[Row],
    name: str,
    alt: str,
    axis: str,
    limits: tuple[float, float] | None = None,
    line: tuple[float, str] | None = None,
    text: Callable[[float | None], str] = number,
) -> Markup:
    """Before and after, a row each: dots with intervals, joined; ``line`` is a named vertical."""
    top = 0.2 if line else 0.0
    with svg.drawing(0.54 + top + ROW_HEIGHT * len(rows), left=0.16, top=0.1 + top) as (
        figure,
        axes,
    ):
        axes.set_ylim(len(rows) - 0.65, -0.7)
        axes.set_yticks([])
        axes.set_xlabel(axis)
        axes.grid(axis="x")
        axes.set_xlim(*(limits or _limits(rows)))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        if text is percent:
            axes.xaxis.set_major_formatter(lambda value, _: percent(value))
        if line:
            axes.axvline(line[0], color=svg.INK, linewidth=0.9, dashes=(4, 3), zorder=1.5)
            axes.text(line[0], -0.78, line[1], ha="center", va="bottom")
        for position, row in enumerate(rows):
            _dumbbell_row(axes, position, row, text)
        return svg.render(figure, name, alt)


def _dumbbell_row(axes: Axes, position: int, row: Row, text: Callable[[float | None], str]) -> None:
    left, right = axes.get_xlim()
    label = shorten(row.label, LABEL_WIDTH, placeholder=" ...")
    axes.text(left, position - 0.42, label, va="center", color=svg.INK)
    shown = [text(value.value) for value in (row.before, row.after) if value.value is not None]
    values = " \N{RIGHTWARDS ARROW} ".join(shown)
    axes.text(right, position - 0.42, values, va="center", ha="right", color=svg.MUTED)
    if row.before.value is not None and row.after.value is not None:
        ends = (row.before.value, row.after.value)
        axes.plot(ends, (position, position), color=svg.LINE, linewidth=1.6, zorder=2)
    if row.reference is not None:
        axes.plot(row.reference, position, marker="|", color=svg.INK, markersize=11, zorder=2.5)
    _dot(axes, row.before, position, svg.BASE, hollow=True)
    _dot(axes, row.after, position, svg.GUIDED)


def _dot(
    axes: Axes, estimate: Estimate, position: float, colour: str, hollow: bool = False
) -> None:
    """The base model is a ring around whatever is there: the two differ without colour too."""
    if estimate.value is None:
        return
    if estimate.low is not None and estimate.high is not None:
        ends, at = (estimate.low, estimate.high), (position, position)
        axes.plot(ends, at, color=colour, lw=5, alpha=0.35, solid_capstyle="butt", zorder=3)
    (dot,) = axes.plot(estimate.value, position, color=colour, marker="o", clip_on=False, zorder=4)
    dot.set_markerfacecolor(svg.PAPER if hollow else colour)
    dot.set_markeredgewidth(1.7 if hollow else 0)
    dot.set_markersize(9.5 if hollow else 6.8)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    ends = [
        end
        for row in rows
        for estimate in (row.before, row.after)
        for end in (estimate.value, estimate.low, estimate.high)
        if end is not None
    ]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def profile(entry: Mapping[str, Any], name: str, alt: str) -> Markup:
    """The mean excess over the noise levels for each group, plus and minus two standard errors."""
    with svg.drawing(2.2, LEFT, TOP) as (figure, axes):
        axes.axhline(0, color=svg.MUTED, linewidth=0.8)
        for side, label, colour, marker in _sides(entry):
            columns = (entry["levels"], entry[side], entry[f"{side}_error"])
            points = [
                (level, mean, 2 * (error or 0.0))
                for level, mean, error in sorted(zip(*columns, strict=True))
                if mean is not None
            ]
            levels = [level for level, _, _ in points]
            means = [mean for _, mean, _ in points]
            low, high = ([m + sign * e for _, m, e in points] for sign in (-1, 1))
            axes.fill_between(levels, low, high, color=colour, alpha=0.22, linewidth=0)
            axes.plot(levels, means, color=colour, marker=marker, markersize=4, label=label)
        _noise_axis(axes)
        _name(axes, "mean excess")
        _legend(axes)
        return svg.render(figure, name, alt)


def _sides(entry: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Key, name, colour and marker of each group's curve."""
    if "with" in entry:
        return [
            ("with", "with the model", svg.WITH, "o"),
            ("against", "against the model", svg.AGAINST, "s"),
        ]
    names = [key for key in entry if key.startswith("group ") and not key.endswith("_error")]
    between = [(svg.GUIDED, svg.MUTED, svg.BASE, svg.INK)[at % 4] for at in range(len(names) - 2)]
    colours = [svg.WITH, *between, svg.AGAINST]
    return [
        (name, name, colour, "os^Dv*"[at % 6])
        for at, (name, colour) in enumerate(zip(names, colours, strict=True))
    ]


def reliability(levels: Sequence[float], values: Sequence[float | None], alt: str) -> Markup:
    """How well two halves of the noise draws agree on the score, for each level."""
    pairs = sorted((x, y) for x, y in zip(levels, values, strict=True) if y is not None)
    with svg.drawing(2.1, LEFT, TOP) as (figure, axes):
        axes.set_ylim(min(0.0, *(y for _, y in pairs), 0.0) - 0.02, 1.02)
        axes.plot(*zip(*pairs, strict=True), color=svg.GUIDED, marker="o", markersize=4)
        _noise_axis(axes)
        _name(axes, "reliability")
        return svg.render(figure, "reliability", alt)


def calibration(entry: Mapping[str, Any], alt: str) -> Markup:
    """The estimated gap over the strength, with the tolerance and the strength that was chosen."""
    curve = sorted(entry["curve"], key=lambda point: point["strength"])
    gaps = [(point["strength"], Estimate.of(point, "gap")) for point in curve]
    with svg.drawing(2.2, LEFT, TOP) as (figure, axes):
        axes.set_ylim(0, 1.05 * max([g.high or g.value or 0.0 for _, g in gaps] + [0.1]))
        axes.grid(axis="y")
        axes.axhline(entry["tolerance"], color=svg.INK, linewidth=0.9, dashes=(4, 3))
        axes.text(gaps[0][0], entry["tolerance"], "tolerance", va="bottom")
        chosen = entry["strength"]
        axes.axvline(chosen, color=svg.MUTED, linewidth=0.9, zorder=1)
        top = axes.get_ylim()[1]
        axes.text(chosen, top, f"chosen: {chosen:g}", ha="center", va="bottom", color=svg.MUTED)
        banded = [(x, g.low, g.high) for x, g in gaps if g.low is not None and g.high is not None]
        if banded:
            xs, lows, highs = zip(*banded, strict=True)
            axes.fill_between(xs, lows, highs, color=svg.GUIDED, alpha=0.2, linewidth=0)
        drawn = [(x, g.value) for x, g in gaps if g.value is not None]
        axes.plot(*zip(*drawn, strict=True), color=svg.GUIDED, marker="o", markersize=4)
        axes.set_xlabel("strength of the guidance (0 = the base model)")
        _name(axes, "estimated gap")
        return svg.render(figure, "calibration", alt)


def two_gaps(points: Sequence[Mapping[str, Any]], alt: str) -> Markup:
    """The gap over the strength as the inferred groups' model and as the classifier see it."""
    kinds = (
        ("estimated", "gap", "estimated, no labels", svg.GUIDED, "o"),
        ("classified", "value", "classifier", svg.INK, "s"),
    )
    strengths = [point["strength"] for point in points]
    with svg.drawing(2.2, LEFT, TOP) as (figure, axes):
        axes.grid(axis="y")
        for kind, key, label, colour, marker in kinds:
            gaps = [Estimate.of(point[kind], key) for point in points]
            value, low, high = (
                np.array([getattr(gap, end) for gap in gaps], float)  # None becomes NaN
                for end in ("value", "low", "high")
            )
            axes.fill_between(strengths, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(strengths, value, color=colour, marker=marker, markersize=4, label=label)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("strength of the guidance (0 = the base model)")
        _name(axes, "gap")
        _legend(axes)
        return svg.render(figure, "two-gaps", alt)


def training(curve: Mapping[str, Sequence[float]], alt: str) -> Markup:
    """The loss over the training steps: a running mean, since single steps are mostly noise."""
    loss = np.asarray(curve["loss"], dtype=float)
    window = max(1, len(loss) // 20)
    smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
    with svg.drawing(2.1, LEFT, TOP) as (figure, axes):
        axes.plot(curve["step"][window - 1 :], smooth, color=svg.GUIDED, linewidth=1.4)
        axes.set_xlabel("training step")
        axes.grid(axis="y")
        _name(axes, "loss")
        return svg.render(figure, "training", alt)


def _noise_axis(axes: Axes) -> None:
    """Pure noise on the left: sampling runs from left to right."""
    axes.set_xlim(1.02, 0 if min(axes.get_xlim()) < 0.35 else min(axes.get_xlim()) - 0.02)
    axes.set_xlabel("noise level (1 = pure noise; sampling runs from left to right)")
    axes.grid(axis="y")


def _name(axes: Axes, name: str) -> None:
    """The name of the vertical axis, above it and not turned: it is read, and never cut."""
    axes.locator_params(axis="y", nbins=6)
    if max(map(abs, axes.get_ylim())) < SMALL:
        name += " (\N{MULTIPLICATION SIGN} 10\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT THREE})"
        axes.yaxis.set_major_formatter(lambda value, _: f"{1000 * value:g}")
    axes.text(-0.12, 1.05, name, transform=axes.transAxes, color=svg.MUTED, va="bottom")


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, labelcolor=svg.INK, handlelength=1.4, borderaxespad=0.0)
