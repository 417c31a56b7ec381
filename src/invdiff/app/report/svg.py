"""Matplotlib figures as inline SVG that takes its colours and its font from the page.

The figures are drawn in stand-in colours, which become CSS variables: one drawing serves the light
and the dark page. What matplotlib adds for a file of its own (prolog, metadata with the date, a
style sheet that would apply to the whole page, identifiers that would clash) goes.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# stand-in colour -> CSS variable of the page; the SVG writer leaves pure black out, so none is
INK, MUTED, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
BASE, GUIDED, WITH, AGAINST = "#050505", "#060606", "#070707", "#080808"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    PAPER: "--card",
    BASE: "--base",
    GUIDED: "--guided",
    WITH: "--with",
    AGAINST: "--against",
}
STYLE = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same everywhere
    "font.size": 8.0,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "invdiff",
    "text.color": INK,
    "text.parse_math": False,  # a prompt may hold dollar signs
    "xtick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
}
BOTTOM, RIGHT = 0.44, 0.16  # inches below and beside what is drawn
WIDTH = 4.6  # inches; 442 CSS pixels, so that a figure fits half a page and a whole telephone


@contextmanager
def drawing(height: float, left: float, top: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of the one width with margins in inches; drawn and rendered inside the style."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        box = (left, BOTTOM, WIDTH - left - RIGHT, height - BOTTOM - top)
        axes = figure.add_axes((box[0] / WIDTH, box[1] / height, box[2] / WIDTH, box[3] / height))
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(pad=4)
        yield figure, axes


def render(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as one ``<svg>`` element; ``name`` keeps its identifiers apart from others'."""
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
    return Markup(adapt(buffer.getvalue(), name, alt))  # matplotlib escapes the text it is given


def adapt(svg: str, name: str, alt: str) -> str:
    """A stand-alone SVG file as an element of the page."""
    body = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="([^"]+)"', body)
    assert view is not None, "matplotlib writes a viewBox"
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    body = body.replace("xlink:href", "href").replace("'DejaVu Sans'", "inherit")
    body = _name_ids(body, name)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    body = re.sub(r"\s*\n\s*", "\n", body)
    return f'<svg role="img" aria-label="{escape(alt)}" viewBox="{view.group(1)}">{body}'


def _name_ids(body: str, name: str) -> str:
    """Drop identifiers that nothing refers to and put ``name`` before the others."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))

    def renamed(match: re.Match[str]) -> str:
        return f' id="{name}-{match.group(1)}"' if match.group(1) in used else ""

    body = re.sub(r' id="([^"]*)"', renamed, body)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
