"""Write ``report.html``: the files of a run as one page that opens offline."""

from pathlib import Path
from typing import Any

from PIL import Image

from invdiff.app.report import charts, inputs, plots
from invdiff.app.report.inputs import Inputs
from invdiff.app.report.rendering import PageSection, render, render_lines
from invdiff.data.samples import Samples
from invdiff.engine.encoding.session import Session, open_data
from invdiff.engine.storage.files import write_text
from invdiff.errors import DataError

THUMBNAIL = 64  # pixels a side of training pictures, where nothing says their size


SMOKE = 100
"""Training steps below which a run shows that everything works, and no more."""


def build(session: Session) -> dict[str, Any]:
    """Build the report of a run; the same run gives the same bytes. No facts for the record.

    Raises:
        RunError: a file of the run is missing or damaged.
    """
    write_text(session.path / "report.html", report_page(inputs.read(session)))
    return {}


def report_page(run: Inputs) -> str:
    """The page as HTML text."""
    samples, problem = _training_pictures(run)
    curve = (run.training or {}).get("curve") if run.trained else None
    context: dict[str, Any] = {
        "run": run,
        "title": "What the model learnt, and what changed",
        "facts": _facts(run),
        "smoke_run": 0 < run.config.train.steps < SMOKE,
        "confidence": run.confidence,
        "picture_problem": problem,
        "pictured_prompts": charts.PICTURED_PROMPTS,
        "headline": charts.summary_chart(run),
        "training_pictures": charts.training_pictures(run, samples) if samples else {},
        "profiles": charts.profile_charts(run),
        "reliability": charts.reliability_chart(run),
        "shares": charts.share_charts(run),
        "estimated_shares": charts.estimated_share_chart(run),
        "generated_pictures": charts.generated_pictures(run),
        "calibration": plots.plot_calibration(run.calibrated) if run.calibrated else None,
        "two_gaps": plots.plot_two_gaps(run.strength_curve) if run.strength_curve else None,
        "training_loss": plots.plot_training(curve) if curve else None,
        "risks": charts.risk_chart(run),
        "limits": render_lines("run_limits.txt.j2", {"run": run}),
    }
    return render("page.html.j2", context | {"sections": _sections(run, context)})


def _sections(run: Inputs, context: dict[str, Any]) -> list[PageSection]:
    """The sections that this run has, in order."""
    parts = ("shares", "estimated_shares", "generated_pictures", "calibration", "two_gaps")
    changed = run.has_quality or any(context[name] for name in (*parts, "training_loss"))
    present = {
        "summary": ("Summary", True),
        "found": ("What was found", True),
        "changed": ("What changed", changed),
        "certificate": ("Worst-case loss bound", run.certificate is not None),
        "comparison": ("Reference rows", bool(run.reference_rows)),
        "reproduce": ("How to reproduce", True),
        "limits": ("What was not measured", True),
    }
    return [PageSection(name, title, name) for name, (title, there) in present.items() if there]


def _facts(run: Inputs) -> dict[str, str]:
    """What the run was about, in a line under the title."""
    ended = [entry.get("done") for name, entry in run.stages.items() if name != "report"]
    facts = {
        "Model": _place(run.config.model.path),
        "Training data": _place(run.config.data.path),
        "Run": run.path.name,
        "Seed": str(run.config.seed),
        "Finished": max((time[:10] for time in ended if time), default=""),
    }
    return {name: value for name, value in facts.items() if value}


def _place(path: str) -> str:
    """A name or a hub id as it is; of a place on somebody's disk the last part."""
    return Path(path).name if Path(path).is_absolute() else path


def _training_pictures(run: Inputs) -> tuple[Samples | None, str]:
    """The training pictures; without them, why: the data may have moved since the run."""
    size = run.config.data.image_size or _generated_size(run) or THUMBNAIL
    try:
        return open_data(run.config.data, size), ""
    except DataError as error:
        return None, str(error)


def _generated_size(run: Inputs) -> int:
    """The width of the first generated picture; 0 without any."""
    for name in (run.samples or {}).get("path") or ():
        if (run.path / name).exists():
            with Image.open(run.path / name) as picture:
                return picture.width
    return 0
