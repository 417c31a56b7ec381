"""``report.html`` of a comparison: one file that opens offline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from invdiff.app.comparison.prose import card_section, methods
from invdiff.app.comparison.sheets import Figures, Sheet, estimate, pick
from invdiff.app.report import plots
from invdiff.app.report.builder import Section, templates
from invdiff.app.report.montage import Grid, grid
from invdiff.app.report.words import (
    Cell,
    Table,
    count,
    number,
    percent,
    with_interval,
)
from invdiff.data.gallery import Gallery
from invdiff.engine.comparison.attributes import ALL
from invdiff.engine.comparison.comparison import ComparisonResult

PROMPTS_SHOWN, PICTURES_SHOWN, TILE = 8, 16, 80
SHARES_DRAWN = 12


@dataclass(frozen=True)
class Finding:
    """One sentence of the summary."""

    lead: str
    text: str


@dataclass(frozen=True)
class Drawn:
    """A drawing with its caption."""

    drawing: Markup
    caption: str


def page(found: ComparisonResult, tables: Sequence[Sheet], command: str) -> str:
    """The page as HTML text."""
    record = found.record
    first, second = (record["sets"][of]["name"] for of in ("a", "b"))
    shown = list(pictures(found.galleries))
    context = {
        "title": f"{first} and {second}, measured",
        "facts": _facts(record),
        "smoke_run": False,
        "confidence": record["confidence"],
        "names": (first, second),
        "findings": list(findings(record)),
        "drawn": list(drawings(record)),
        "pictures_of": shown,
        "without_pictures": max(0, len(_prompts(found.galleries)) - len(shown)),
        "tables": [sheet.table for sheet in tables],
        "methods": methods(record),
        "card": card_section(record, tables),
        "command": command,
        "hashes": _hashes(record),
        "limits": record["warnings"] + record["not_measured"],
    }
    return (
        templates()
        .get_template("template.html.j2")
        .render(context, sections=_sections(bool(shown)))
        .rstrip()
        + "\n"
    )


def _sections(with_pictures: bool) -> list[Section]:
    every = [
        Section("summary", "Summary", "compare_summary"),
        Section("limits", "Before you read the figures"),
        Section("figures", "Figures", "compare_figures"),
        Section("pictures", "Pictures", "compare_pictures"),
        Section("methods", "Methods, to paste", "compare_methods"),
        Section("card", "For a model card", "compare_card"),
        Section("reproduce", "How to reproduce", "compare_reproduce"),
    ]
    return [one for one in every if with_pictures or one.anchor != "pictures"]


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    sets = record["sets"]
    facts = {
        {"a": "First", "b": "Second"}.get(of, "Reference"): f"{one['name']}, "
        f"{count(one['images'])} pictures"
        for of, one in sets.items()
    }
    return facts | {
        "Protocol": record["protocol"]["name"],
        "Features": ", ".join(record["extractors"]),
        "Seed": str(record["seed"]),
    }


def findings(record: Mapping[str, Any]) -> Iterator[Finding]:
    """What the figures say, a sentence each."""
    figures: Figures = record["figures"]
    confidence = record["confidence"]
    for attribute in dict.fromkeys(f["attribute"] for f in figures if f["figure"] == "bias"):
        before, after, less = (
            pick(figures, "bias", of, attribute=attribute) for of in ("a", "b", "a - b")
        )
        text = f"{with_interval(estimate(before), confidence)} in the first set"
        text += f", {with_interval(estimate(after), confidence)} in the second"
        if less is not None:
            text += f"; the difference is {with_interval(estimate(less), confidence)}"
        if after is not None:
            text += f". A balanced sampler would show {number(after['parity_value'])}"
        yield Finding(f"Bias of {attribute}", f"{text}.")
    yield from _compared(figures, record)


def _compared(figures: Figures, record: Mapping[str, Any]) -> Iterator[Finding]:
    confidence, sets = record["confidence"], record["sets"]
    against = sets.get("reference", sets["a"])["name"]
    for name, label, digits in (("kid", "KID x 1000", 2), ("coverage", "Coverage", 3)):
        parts = []
        for of in ("a", "b"):
            one = pick(figures, name, of)
            if one is not None:
                shown = with_interval(estimate(one), confidence, digits)
                parts.append(f"{shown} for {sets[of]['name']}")
        if parts:
            yield Finding(f"{label}, compared with {against}", f"{'; '.join(parts)}.")
    less = pick(figures, "diversity", "a - b")
    if less is not None:
        both = [_told(pick(figures, "diversity", of), confidence) for of in ("a", "b")]
        text = f"{both[0]} in the first, {both[1]} in the second."
        yield Finding("Diversity within prompts", text)


def _told(figure: Mapping[str, Any] | None, confidence: float) -> str:
    return with_interval(estimate(figure), confidence, 3)


def drawings(record: Mapping[str, Any]) -> Iterator[Drawn]:
    """Bias of each attribute, and the shares of those with two classes."""
    figures: Figures = record["figures"]
    attributes = list(dict.fromkeys(f["attribute"] for f in figures if f["figure"] == "bias"))
    rows = []
    for attribute in attributes:
        before, after = (pick(figures, "bias", of, attribute=attribute) for of in ("a", "b"))
        level = (after or before or {}).get("parity_value")
        rows.append(plots.Row(attribute, estimate(before), estimate(after), level))
    if rows:
        alt = "Bias of each attribute in both sets"
        yield Drawn(
            plots.dumbbell(rows, "bias", alt, "Bias (0 = parity)", (0.0, 1.0)),
            "The upright tick is what a balanced sampler would show with as many pictures.",
        )
    for place, attribute in enumerate(attributes):
        classes = list(record["attributes"].get(attribute, {}).get("classes", ()))
        if len(classes) == 2:
            yield _share_plot(figures, attribute, classes[0], f"shares{place}")


def _share_plot(figures: Figures, attribute: str, klass: str, name: str) -> Drawn:
    where = {"attribute": attribute, "class": klass}
    prompts = dict.fromkeys(
        f["prompt"] for f in figures if f["figure"] == "share" and where.items() <= f.items()
    )
    rows = []
    for prompt in list(prompts)[:SHARES_DRAWN]:
        before, after = (pick(figures, "share", of, prompt=prompt, **where) for of in ("a", "b"))
        rows.append(plots.Row(prompt, estimate(before), estimate(after)))
    drawing = plots.dumbbell(
        rows, name, f"Share of {klass} for each prompt in both sets", f"share of {klass}",
        (0.0, 1.0), (0.5, "even"), percent,
    )  # fmt: skip
    return Drawn(drawing, f"Share of pictures labelled {klass}.")


def pictures(galleries: Mapping[str, Gallery]) -> Iterator[tuple[str, list[Grid]]]:
    """The first pictures of each prompt in every set; nobody chose them."""
    for prompt in _prompts(galleries)[:PROMPTS_SHOWN]:
        grids = []
        for gallery in galleries.values():
            rows = [row for row, one in enumerate(gallery.prompt) if one == prompt]
            if rows := rows[:PICTURES_SHOWN]:
                shown = list(gallery.pictures(rows, min(TILE, *gallery.size)))
                alt = f"{len(rows)} pictures of {gallery.path.name}: {prompt or ALL}"
                grids.append(grid(shown, alt, gallery.path.name))
        yield prompt or ALL, grids


def _prompts(galleries: Mapping[str, Gallery]) -> list[str]:
    return sorted({*galleries["a"].prompt, *galleries["b"].prompt})


def _hashes(record: Mapping[str, Any]) -> Table:
    rows = [(Cell(one["name"]), Cell(one["sha256"])) for one in record["sets"].values()]
    rows += [
        (Cell(f"weights of {name}"), Cell(one["sha256"] or "none: no weights"))
        for name, one in record["extractors"].items()
    ]
    rows += [(Cell(name), Cell(version)) for name, version in record["versions"].items() if version]
    return Table("Hashes and versions", ("", "Value"), tuple(rows), numeric=False)
