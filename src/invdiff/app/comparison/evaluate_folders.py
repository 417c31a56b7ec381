"""Two folders of pictures, measured and written up: what `invdiff evaluate A B` does, in Python.

``report.html`` is one file that opens offline; beside it are tables, and texts to paste.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invdiff.app.comparison.figures import ComparisonFigures
from invdiff.app.comparison.sheets import FLAT, Sheet, sheet_csv, sheets
from invdiff.app.report import plots
from invdiff.app.report.montage import PICTURED_PROMPTS, TILE, InlinePicture, grid
from invdiff.app.report.plots import BeforeAfter
from invdiff.app.report.quantities import percent
from invdiff.app.report.rendering import render
from invdiff.data.gallery import Gallery
from invdiff.data.samples import plural
from invdiff.engine.comparison.attributes import ALL
from invdiff.engine.comparison.comparison import ComparisonResult, compare
from invdiff.engine.comparison.request import ComparisonRequest
from invdiff.engine.distributed import only_once
from invdiff.engine.storage.files import plain, write_csv, write_text

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


def evaluate_folders(
    first: str | Path,
    second: str | Path,
    out: str | Path,
    *,
    reference: str | Path | None = None,
    extractors: Sequence[str] = (),
    classifier: str = "",
    attribute: str = "",
    classes: Sequence[str] = (),
    labels: Sequence[str] = (),
    clip: str = "",
    protocol: str = "standard",
    target: Mapping[str, float] | None = None,
    prompt_column: str = "",
    quarantine: str | Path = "",
    max_bad_share: float = 0.0,
    side: int = 0,
    seed: int = 0,
    resamples: int = 1000,
    processes: int = 1,
    command: str = "",
) -> dict[str, Any]:
    """Measure two folders of pictures; both against ``reference``, else the second by the first.

    Nothing is trained and nothing is downloaded. A folder is flat, or has a sub-folder for each
    prompt, or captions as `invdiff run` reads them.

    Args:
        first: what was there before, or real pictures.
        second: what is to be judged.
        out: folder for ``metrics.json``, ``report.html`` and the tables; made if it is not there.
        reference: pictures to compare both with.
        extractors: names or folders of feature extractors; () takes efficientnet-lite0.
        classifier: "faces", a file of a classifier, or clip:, siglip: or model: before the folder
            or hub id of a model; "" for none.
        attribute: what such a model estimates, or which one of a file's attributes.
        classes: its classes, as "female = a photo of a woman": texts for clip and siglip, labels
            of the model for model.
        labels: columns with attributes that the pictures came with.
        clip: folder or hub id of a model with both towers, for CLIP-T; "" for none.
        protocol: "standard" or "official".
        target: the mix that shares are to have, by class.
        prompt_column: column with the prompts; "" finds caption, text or prompt.
        quarantine: a list of pictures to leave out of all sets, as `invdiff data check` writes it.
        max_bad_share: leave out pictures that cannot be used, up to this share (0..1) of a set.
        side: bring all pictures to this many pixels first; 0 keeps their size.
        seed: owner of every random draw.
        resamples: draws behind each interval.
        processes: worker processes; 0 is automatic. A script that asks for more than one needs
            ``if __name__ == "__main__":`` around what it does, since workers import it.
        command: how to do it again, for the report; "" tells it in Python.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        DataError: pictures, prompts or labels that cannot be used.
        ModelError, MissingExtra: an extractor or classifier that is not there.
        RunError: ``out`` is a run.
    """
    only_once()
    place = Path(out)
    asked = ComparisonRequest(
        first=first,
        second=second,
        reference=reference,
        extractors=tuple(extractors),
        classifier=classifier,
        attribute=attribute,
        classes=tuple(classes),
        labels=tuple(labels),
        clip=clip,
        protocol=protocol,
        target=dict(target or {}),
        prompt_column=prompt_column,
        quarantine=quarantine,
        max_bad_share=max_bad_share,
        side=side,
        seed=seed,
        resamples=resamples,
        processes=processes,
    )
    found = compare(asked, place)
    tables = sheets(found.record)
    again = command or f"invdiff.evaluate_folders({str(first)!r}, {str(second)!r}, {str(out)!r})"
    for sheet in tables:
        write_text(place / f"table-{sheet.key}.csv", sheet_csv(sheet))
        write_text(place / f"table-{sheet.key}.tex", render("table.tex.j2", {"sheet": sheet}))
    write_csv(place / "figures.csv", FLAT, plain(found.record["figures"]))
    write_text(place / "methods.md", methods(found.record) + "\n")
    write_text(place / "model-card-section.md", card_section(found.record, tables))
    write_text(place / "report.html", comparison_page(found, tables, again))
    return found.record


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
