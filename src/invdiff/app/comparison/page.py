"""``report.html`` of a comparison, one file that opens offline, and the texts to paste."""

from collections.abc import Mapping, Sequence
from typing import Any

from invdiff.app.comparison.figures import ComparisonFigures
from invdiff.app.comparison.sheets import Sheet
from invdiff.app.report import plots
from invdiff.app.report.montage import PICTURED_PROMPTS, TILE, InlinePicture, grid
from invdiff.app.report.plots import BeforeAfter
from invdiff.app.report.quantities import percent
from invdiff.app.report.rendering import render
from invdiff.data.gallery import Gallery
from invdiff.data.samples import plural
from invdiff.engine.comparison.attributes import ALL
from invdiff.engine.comparison.comparison import ComparisonResult

PICTURES_SHOWN, SHARES_DRAWN = 16, 12
SECTIONS = {
    "summary": "Summary",
    "limits": "Before you read the figures",
    "figures": "Figures",
    "pictures": "Pictures",
    "methods": "Methods, to paste",
    "card": "For a model card",
    "reproduce": "How to reproduce",
}


def comparison_page(found: ComparisonResult, tables: Sequence[Sheet], command: str) -> str:
    """The page as HTML text."""
    record = found.record
    figures = ComparisonFigures(record)
    names = {of: one["name"] for of, one in record["sets"].items()}
    prompts = sorted({*found.galleries["a"].prompt, *found.galleries["b"].prompt})
    shown = {
        prompt or ALL: _pictures(found.galleries, prompt) for prompt in prompts[:PICTURED_PROMPTS]
    }
    context = {
        "title": f"{names['a']} and {names['b']}, measured",
        "facts": _facts(record),
        "smoke_run": False,
        "confidence": record["confidence"],
        "record": record,
        "names": names,
        "measures": figures,
        "bias": _bias(figures),
        "shares": _shares(figures),
        "folders": {of: gallery.path.name for of, gallery in found.galleries.items()},
        "pictures_of": shown,
        "without_pictures": max(0, len(prompts) - len(shown)),
        "sheets": tables,
        "methods": methods(record),
        "card": card_section(record, tables),
        "command": command,
        "limits": record["warnings"] + record["not_measured"],
        "prefix": "compare_",
        "sections": {at: title for at, title in SECTIONS.items() if shown or at != "pictures"},
    }
    return render("page.html.j2", context)


def methods(record: Mapping[str, Any]) -> str:
    """Plain paragraphs to paste into a paper, made of what was really done."""
    blocks = render("methods.md.j2", {"record": record}).split("\n\n")
    return "\n\n".join(" ".join(block.split()) for block in blocks)


def card_section(record: Mapping[str, Any], tables: Sequence[Sheet]) -> str:
    """A section for the model card of what made the second set, as Markdown."""
    context = {"record": record, "sheets": tables, "measures": ComparisonFigures(record)}
    return render("card_section.md.j2", context)


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    """What was compared, in a line under the title."""
    titles = {"a": "First", "b": "Second", "reference": "Reference"}
    sets = record["sets"].items()
    facts = {titles[of]: f"{one['name']}, {plural(one['images'], 'picture')}" for of, one in sets}
    return facts | {
        "Protocol": record["protocol"]["name"],
        "Features": ", ".join(record["extractors"]),
        "Seed": str(record["seed"]),
    }


def _bias(figures: ComparisonFigures) -> BeforeAfter | None:
    """Bias of each attribute."""
    rows = [
        (attribute, *figures.of_each("bias", attribute=attribute)[:2])
        for attribute in figures.attributes
    ]
    drawn = plots.dumbbell(rows, "Bias (0 = parity)", (0.0, 1.0)) if rows else None
    return BeforeAfter(drawn, rows) if drawn else None


def _shares(figures: ComparisonFigures) -> dict[tuple[str, str], BeforeAfter]:
    """(attribute, class) -> its share for each prompt, for attributes with two classes."""
    drawn = {}
    for attribute in figures.attributes:
        classes = list(figures.record["attributes"].get(attribute, {}).get("classes", ()))
        if len(classes) != 2:
            continue
        where = {"attribute": attribute, "class": classes[0]}
        rows = [
            (prompt, *figures.of_each("share", prompt=prompt, **where)[:2])
            for prompt in figures.values("prompt", "share", **where)[:SHARES_DRAWN]
        ]
        axis = f"share of {classes[0]}"
        picture = plots.dumbbell(rows, axis, (0.0, 1.0), (0.5, "even"), percent)
        drawn[attribute, classes[0]] = BeforeAfter(picture, rows)
    return drawn


def _pictures(galleries: Mapping[str, Gallery], prompt: str) -> dict[str, InlinePicture]:
    """Set -> the first pictures of a prompt; nobody chose them."""
    grids = {}
    for of, gallery in galleries.items():
        rows = [row for row, one in enumerate(gallery.prompt) if one == prompt][:PICTURES_SHOWN]
        if rows:
            grids[of] = grid(list(gallery.pictures(rows, min(TILE, *gallery.size))))
    return grids
