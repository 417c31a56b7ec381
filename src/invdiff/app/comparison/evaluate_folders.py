"""Two folders of pictures, measured and written up: what `invdiff evaluate A B` does, in Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invdiff.app.comparison.page import card_section, comparison_page, methods
from invdiff.app.comparison.sheets import figures_csv, sheet_csv, sheets
from invdiff.app.report.rendering import render
from invdiff.engine.comparison.comparison import compare
from invdiff.engine.comparison.request import ComparisonRequest
from invdiff.engine.distributed import only_once
from invdiff.engine.storage.files import write_text


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
    write_text(place / "figures.csv", figures_csv(found.record["figures"]))
    write_text(place / "methods.md", methods(found.record) + "\n")
    write_text(place / "model-card-section.md", card_section(found.record, tables))
    write_text(place / "report.html", comparison_page(found, tables, again))
    return found.record
