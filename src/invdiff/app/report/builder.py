"""Write ``report.html``: the files of a run as one page that opens offline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from invdiff.app.report import changed, closing, found, inputs, limits, summary
from invdiff.app.report.inputs import Inputs
from invdiff.data.samples import Samples
from invdiff.engine.encoding.data import open_data
from invdiff.engine.encoding.session import Session
from invdiff.engine.storage.files import write_text
from invdiff.errors import DataError

THUMBNAIL = 64  # pixels a side of training pictures, where nothing says their size


@dataclass(frozen=True)
class Section:
    """One entry of the table of contents; its template is ``file``, or named like the anchor."""

    anchor: str
    title: str
    template: str = ""

    @property
    def file(self) -> str:
        """The name of the template, without its suffix."""
        return self.template or self.anchor


SMOKE = 100
"""Training steps below which a run shows that everything works, and no more."""


def build(session: Session) -> dict[str, Any]:
    """Build the report of a run; the same run gives the same bytes. No facts for the record.

    Raises:
        RunError: a file of the run is missing or damaged.
    """
    write_text(session.path / "report.html", page(inputs.read(session)))
    return {}


def page(known: Inputs) -> str:
    """The page as HTML text."""
    samples, problem = _training_pictures(known)
    template = templates().get_template("template.html.j2")
    context = {
        "title": "What the model learnt, and what changed",
        "facts": _facts(known),
        "smoke_run": 0 < known.config.train.steps < SMOKE,
        "picture_problem": problem,
        "confidence": known.confidence,
        "trained": known.trained,
        "has_shares": known.has_shares,
        "findings": summary.findings(known),
        "headline": summary.headline(known),
        "found": found.section(known, samples),
        "changed": changed.section(known),
        "certificate": closing.certificate(known),
        "comparison": closing.comparison(known),
        "reproduce": closing.reproduce(known),
        "limits": limits.limits(known),
    }
    return template.render(context, sections=_sections(context)).rstrip() + "\n"


def templates() -> Environment:
    """The templates of pages; what is put into them is escaped."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _sections(context: dict[str, Any]) -> list[Section]:
    """The sections that this run has, in order."""
    seen = context["changed"]
    present = {
        "summary": ("Summary", True),
        "found": ("What was found", True),
        "changed": ("What changed", bool(seen.pictures or seen.tables or seen.plots)),
        "certificate": ("Certificate", context["certificate"] is not None),
        "comparison": ("Reference rows", context["comparison"] is not None),
        "reproduce": ("How to reproduce", True),
        "limits": ("What was not measured", True),
    }
    return [Section(anchor, title) for anchor, (title, there) in present.items() if there]


def _facts(known: Inputs) -> dict[str, str]:
    """What the run was about, in a line under the title."""
    ended = [entry.get("done") for name, entry in known.stages.items() if name != "report"]
    done = [time[:10] for time in ended if time]
    facts = {
        "Model": _place(known.config.model.path),
        "Training data": _place(known.config.data.path),
        "Run": known.path.name,
        "Seed": str(known.config.seed),
        "Finished": max(done, default=""),
    }
    return {name: value for name, value in facts.items() if value}


def _place(path: str) -> str:
    """A name or a hub id as it is; of a place on somebody's disk the last part."""
    return Path(path).name if Path(path).is_absolute() else path


def _training_pictures(known: Inputs) -> tuple[Samples | None, str]:
    """The training pictures; without them, why: the data may have moved since the run."""
    data = known.config.data
    size = data.image_size or _generated_size(known) or THUMBNAIL
    try:
        samples = open_data(data, size)
    except DataError as error:
        return None, str(error)
    return samples, ""


def _generated_size(known: Inputs) -> int:
    """The width of the first generated picture; 0 without any."""
    for name in (known.samples or {}).get("path") or ():
        if (known.path / name).exists():
            with Image.open(known.path / name) as picture:
                return picture.width
    return 0
