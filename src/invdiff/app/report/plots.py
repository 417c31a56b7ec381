"""The drawings of the pages: values with their intervals, before and after on one line."""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from invdiff.app.report.montage import InlinePicture
from invdiff.app.report.quantities import Quantity, decimal, percent, single_line
from invdiff.engine.run.records import Calibration
from invdiff.errors import printable

STYLE = Path(__file__).with_name("plots.mplstyle")
# those of style.css
INK, MUTED, LINE, PAPER = "#1d2126", "#5b646e", "#dcdad4", "#ffffff"
BASE, GUIDED, OVER, UNDER = "#6b7480", "#1763a6", "#1f7a6d", "#b4530f"
METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
LABEL_WIDTH = 44  # characters that fit above a row
SMALL = 0.1  # an axis that stays below this counts in thousandths
WIDTH, ROW_HEIGHT = 4.6, 0.48  # inches; a figure fits half a page and a whole telephone
BOTTOM, RIGHT = 0.44, 0.16  # inches below and beside what is drawn
LEFT, TOP = 0.52, 0.3  # inches beside and above a curve, for its numbers and the name of its axis
CSS_PIXELS = 96  # an inch
STRENGTH = "adapter strength (0 = the base model)"

DumbbellRow = tuple[str, Quantity, Quantity]  # label, before, after


@dataclass(frozen=True)
class BeforeAfter:
    """A drawing of quantities before and after, and the rows that it shows."""

    picture: InlinePicture
    rows: Sequence[DumbbellRow]


@contextmanager
def _drawing(height: float, left: float = LEFT, top: float = TOP) -> Iterator[tuple[Figure, Axes]]:
    """A figure of the one width with margins in inches; drawn and rendered inside the style."""
    with style.context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        box = (left, BOTTOM, WIDTH - left - RIGHT, height - BOTTOM - top)
        axes = figure.add_axes((box[0] / WIDTH, box[1] / height, box[2] / WIDTH, box[3] / height))
        yield figure, axes


def _inline(figure: Figure) -> InlinePicture:
    """The figure as an SVG picture; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # text stays text: who opens the page has the fonts, here it is measured only
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently does not support")
        figure.savefig(buffer, format="svg", metadata=METADATA)
    width, height = (round(CSS_PIXELS * inches) for inches in figure.get_size_inches())
    return InlinePicture.of(buffer.getvalue(), "image/svg+xml", (width, height))


def dumbbell(
    rows: Sequence[DumbbellRow],
    axis: str,
    limits: tuple[float, float] | None = None,
    line: tuple[float, str] | None = None,
    text: Callable[[float | None], str] = decimal,
) -> InlinePicture:
    """Before and after, a row each: dots with intervals, joined; ``line`` is a named vertical.

    A small upright tick is the value at parity.
    """
    top = 0.2 if line else 0.0
    height = 0.54 + top + ROW_HEIGHT * len(rows)
    with _drawing(height, left=0.16, top=0.1 + top) as (figure, axes):
        axes.set_ylim(len(rows) - 0.65, -0.7)
        axes.set_yticks([])
        axes.set_xlabel(axis)
        axes.grid(axis="x")
        axes.set_xlim(*(limits or _limits(rows)))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        if text is percent:
            axes.xaxis.set_major_formatter(lambda value, _: percent(value))
        if line:
            axes.axvline(line[0], color=INK, linewidth=0.9, dashes=(4, 3), zorder=1.5)
            axes.text(line[0], -0.78, line[1], ha="center", va="bottom")
        for position, row in enumerate(rows):
            _dumbbell_row(axes, position, *row, text)
        return _inline(figure)


def _dumbbell_row(
    axes: Axes,
    position: int,
    label: str,
    before: Quantity,
    after: Quantity,
    text: Callable[[float | None], str],
) -> None:
    left, right = axes.get_xlim()
    axes.text(left, position - 0.42, _fitting(label), va="center")
    ends = [one.value for one in (before, after) if one.value is not None]
    values = " \N{RIGHTWARDS ARROW} ".join(map(text, ends))
    axes.text(right, position - 0.42, values, va="center", ha="right", color=MUTED)
    if len(ends) == 2:
        axes.plot(ends, (position, position), color=LINE, linewidth=1.6, zorder=2)
    parity = after.reference if before.reference is None else before.reference
    if parity is not None:
        axes.plot(parity, position, marker="|", color=INK, markersize=11, zorder=2.5)
    _dot(axes, before, position, BASE, hollow=True)
    _dot(axes, after, position, GUIDED)


def _fitting(label: str) -> str:
    """A label in one line that fits above a row; letters of East Asia are twice as wide."""
    label = printable(single_line(label))
    ends = np.cumsum([1 + (east_asian_width(letter) in "FW") for letter in label])
    if not len(ends) or ends[-1] <= LABEL_WIDTH:
        return label
    kept = label[: np.searchsorted(ends, LABEL_WIDTH - 4, "right")]
    return f"{kept.rpartition(' ')[0] or kept} ..."


def _dot(axes: Axes, one: Quantity, position: float, colour: str, hollow: bool = False) -> None:
    """The base model is a ring around whatever is there: the two differ without colour too."""
    if one.value is None:
        return
    if one.low is not None and one.high is not None:
        ends, at = (one.low, one.high), (position, position)
        axes.plot(ends, at, color=colour, lw=5, alpha=0.35, solid_capstyle="butt", zorder=3)
    (dot,) = axes.plot(one.value, position, color=colour, marker="o", clip_on=False, zorder=4)
    dot.set_markerfacecolor(PAPER if hollow else colour)
    dot.set_markeredgewidth(1.7 if hollow else 0)
    dot.set_markersize(9.5 if hollow else 6.8)


def _limits(rows: Sequence[DumbbellRow]) -> tuple[float, float]:
    ends = [
        end
        for _, *pair in rows
        for one in pair
        for end in (one.value, one.low, one.high)
        if end is not None
    ]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def plot_profile(entry: Mapping[str, Any]) -> InlinePicture:
    """The mean excess over the noise levels for each group, plus and minus two standard errors."""
    with _drawing(2.2) as (figure, axes):
        axes.axhline(0, color=MUTED, linewidth=0.8)
        for key, label, colour, marker in _groups(entry):
            columns = (entry["levels"], entry[key], entry[f"{key}_error"])
            points = [
                (level, Quantity(mean, mean - 2 * (error or 0.0), mean + 2 * (error or 0.0)))
                for level, mean, error in sorted(zip(*columns, strict=True))
                if mean is not None
            ]
            _curve(axes, points, colour, marker=marker, label=label)
        _noise_axis(axes)
        _name(axes, "mean excess")
        axes.legend()
        return _inline(figure)


def _groups(entry: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Key, name, colour and marker of each group's curve."""
    if "with" in entry:
        return [
            ("with", "over-represented", OVER, "o"),
            ("against", "under-represented", UNDER, "s"),
        ]
    names = [key for key in entry if key.startswith("group ") and not key.endswith("_error")]
    between = [(GUIDED, MUTED, BASE, INK)[at % 4] for at in range(len(names) - 2)]
    colours = [OVER, *between, UNDER]
    return [
        (name, name, colour, "os^Dv*"[at % 6])
        for at, (name, colour) in enumerate(zip(names, colours, strict=True))
    ]


def plot_reliability(levels: Sequence[float], values: Sequence[float | None]) -> InlinePicture:
    """How well two halves of the noise draws agree on the score, for each level."""
    pairs = sorted((x, y) for x, y in zip(levels, values, strict=True) if y is not None)
    with _drawing(2.1) as (figure, axes):
        axes.set_ylim(min(0.0, *(y for _, y in pairs), 0.0) - 0.02, 1.02)
        _curve(axes, [(x, Quantity(y)) for x, y in pairs], GUIDED)
        _noise_axis(axes)
        _name(axes, "reliability")
        return _inline(figure)


def plot_calibration(entry: Calibration) -> InlinePicture:
    """The estimated gap over the strength, with the tolerance and the strength that was chosen."""
    gaps = sorted((point.strength, Quantity.of(point, "gap")) for point in entry.curve)
    with _drawing(2.2) as (figure, axes):
        axes.set_ylim(0, 1.05 * max([g.high or g.value or 0.0 for _, g in gaps] + [0.1]))
        axes.grid(axis="y")
        axes.axhline(entry.tolerance, color=INK, linewidth=0.9, dashes=(4, 3))
        axes.text(gaps[0][0], entry.tolerance, "tolerance", va="bottom")
        axes.axvline(entry.strength, color=MUTED, linewidth=0.9, zorder=1)
        chosen = f"chosen: {entry.strength:g}"
        axes.text(entry.strength, axes.get_ylim()[1], chosen, ha="center", va="bottom", color=MUTED)
        _curve(axes, gaps, GUIDED)
        axes.set_xlabel(STRENGTH)
        _name(axes, "estimated gap")
        return _inline(figure)


def plot_two_gaps(points: Sequence[tuple[float, Quantity, Quantity]]) -> InlinePicture:
    """The gap over the strength as the inferred groups' model and as the classifier see it."""
    with _drawing(2.2) as (figure, axes):
        axes.grid(axis="y")
        estimated = [(strength, gap) for strength, gap, _ in points]
        classified = [(strength, bias) for strength, _, bias in points]
        _curve(axes, estimated, GUIDED, label="estimated, no labels")
        _curve(axes, classified, INK, marker="s", label="classifier")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(STRENGTH)
        _name(axes, "gap")
        axes.legend()
        return _inline(figure)


def plot_training(curve: Mapping[str, Sequence[float | None]]) -> InlinePicture:
    """The loss over the training steps: a running mean, since single steps are mostly noise."""
    loss = np.asarray(curve["loss"], dtype=float)
    window = max(1, len(loss) // 20)
    smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
    with _drawing(2.1) as (figure, axes):
        axes.plot(
            np.asarray(curve["step"][window - 1 :], dtype=float),
            smooth,
            color=GUIDED,
            linewidth=1.4,
        )
        axes.set_xlabel("training step")
        axes.grid(axis="y")
        _name(axes, "loss")
        return _inline(figure)


def _curve(
    axes: Axes,
    points: Sequence[tuple[float, Quantity]],
    colour: str,
    marker: str = "o",
    label: str | None = None,
) -> None:
    """Values joined by lines, and the band of their intervals where there are any."""
    known = [(at, one) for at, one in points if one.value is not None]
    line = np.array([(at, one.value) for at, one in known], float).reshape(-1, 2)
    axes.plot(*line.T, color=colour, marker=marker, label=label)
    banded = [(at, one.low, one.high) for at, one in known if one.has_interval]
    if banded:
        axes.fill_between(*np.array(banded, float).T, color=colour, alpha=0.2, linewidth=0)


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
    axes.text(-0.12, 1.05, name, transform=axes.transAxes, color=MUTED, va="bottom")
