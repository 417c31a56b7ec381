"""Write ``report.html``: the files of a run as one page that opens offline, with its drawings."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from invdiff.app.report import inputs, montage, plots
from invdiff.app.report.facts import ARMS
from invdiff.app.report.inputs import Inputs, group_name
from invdiff.app.report.montage import PICTURED_PROMPTS, InlinePicture
from invdiff.app.report.plots import BeforeAfter, DumbbellRow
from invdiff.app.report.quantities import Quantity, percent, shortest, significant
from invdiff.app.report.rendering import render, render_lines
from invdiff.data.samples import Samples
from invdiff.engine.encoding.session import Session, open_data
from invdiff.engine.storage.files import write_text
from invdiff.errors import DataError

THUMBNAIL = 64  # pixels a side of training pictures, where nothing says their size


PICTURED_ATTRIBUTES = 6
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
    curve = run.training.curve if run.training and run.trained else {}
    context: dict[str, Any] = {
        "run": run,
        "title": "What the model learnt, and what changed",
        "prefix": "",
        "facts": _facts(run),
        "smoke_run": 0 < run.config.train.steps < SMOKE,
        "confidence": run.confidence,
        "picture_problem": problem,
        "pictured_prompts": PICTURED_PROMPTS,
        "headline": summary_chart(run),
        "training_pictures": most_certain_pictures(run, samples) if samples else {},
        "attribute_pictures": attribute_pictures(run, samples) if samples else {},
        "profiles": profile_charts(run),
        "reliability": reliability_chart(run),
        "shares": share_charts(run),
        "estimated_shares": estimated_share_chart(run),
        "generated_pictures": generated_pictures(run),
        "calibration": plots.plot_calibration(run.calibrated) if run.calibrated else None,
        "two_gaps": plots.plot_two_gaps(run.strength_curve) if run.strength_curve else None,
        "training_loss": plots.plot_training(curve) if curve else None,
        "risks": risk_chart(run),
        "limits": render_lines("run_limits.txt.j2", {"run": run}),
    }
    return render("page.html.j2", context | {"sections": _sections(run, context)})


def _sections(run: Inputs, context: dict[str, Any]) -> dict[str, str]:
    """Anchor -> title of the sections that this run has, in order."""
    parts = ("shares", "estimated_shares", "generated_pictures", "calibration", "two_gaps")
    changed = run.has_quality or any(context[name] for name in (*parts, "training_loss"))
    present = {
        "summary": ("Summary", True),
        "found": ("What was found", True),
        "changed": ("What changed", changed),
        "certificate": ("Worst-case loss bound", run.certificate is not None),
        "comparison": ("Reference rows", bool(run.comparison.get("rows"))),
        "reproduce": ("How to reproduce", True),
        "limits": ("What was not measured", True),
    }
    return {anchor: title for anchor, (title, there) in present.items() if there}


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
    for name in run.samples.get("path") or ():
        if (run.path / name).exists():
            with Image.open(run.path / name) as picture:
                return picture.width
    return 0


def summary_chart(run: Inputs) -> BeforeAfter | None:
    """Bias before and after for each guidance scale; the estimated gap without a classifier."""
    axis = "Bias (0 = parity, 1 = one class only)"
    rows: list[DumbbellRow] = []
    if run.has_shares:
        for scale in run.scales:
            rows.append((f"guidance scale {shortest(scale)}", *run.both(scale, "bias")))
    elif found := run.calibrated:
        axis = "estimated gap between the inferred groups (0 = parity)"
        before, after = (Quantity.of(point, "gap") for point in (found.before, found.chosen))
        rows = [(f"guidance scale {found.guidance_scale:g}", before, after)]
    return BeforeAfter(plots.dumbbell(rows, axis, limits=(0.0, 1.0)), rows) if rows else None


def share_charts(run: Inputs) -> dict[str, BeforeAfter]:
    """Guidance scale -> the shares of the classes for each prompt."""
    shown = run.shown_classes
    one_class = len(shown) == 1
    axis = f"share classified as {shown[0]}" if one_class else "share of the pictures"
    drawn = {}
    for scale in run.scales if shown else ():
        rows: list[DumbbellRow] = []
        for prompt, name in product(run.share_prompts(scale), shown):
            before, after = (run.share(arm, scale, prompt, name) for arm in ARMS)
            rows.append((prompt if one_class else f"{prompt}: {name}", before, after))
        parity = (1 / len(run.classes), "parity")
        drawn[scale] = BeforeAfter(plots.dumbbell(rows, axis, (0.0, 1.0), parity, percent), rows)
    return drawn


def estimated_share_chart(run: Inputs) -> BeforeAfter | None:
    """Without a classifier: what the model of the groups makes of generated images."""
    found = run.calibrated
    if run.has_shares or not found or not found.before.shares:
        return None
    before, after = found.before.shares, found.chosen.shares
    rows = [row for prompt in before for row in _rows(prompt, before[prompt], after.get(prompt))]
    groups = max(len(one) if isinstance(one, list) else 2 for one in before.values())
    axis = "estimated share of " + ("each group" if groups > 2 else "the under-represented group")
    line = None  # of several groups with uneven shares wanted, each has its own
    if not (wanted := run.config.discover.target):
        line = (1 / groups, "parity")
    elif groups == 2:
        line = (wanted[1], "wanted")
    return BeforeAfter(plots.dumbbell(rows, axis, (0.0, 1.0), line, percent), rows)


def _rows(prompt: str, before: Any, after: Any) -> Iterator[DumbbellRow]:
    """The under-represented group, or each of several."""
    if not isinstance(before, list):
        yield prompt, Quantity(before), Quantity(after)
        return
    for group, (old, new) in enumerate(zip(before, after, strict=True)):
        name = group_name(group, len(before))
        yield f"{prompt}: {name}", Quantity(old), Quantity(new)


def risk_chart(run: Inputs) -> BeforeAfter | None:
    """The denoising risk of each inferred group; None when nothing was trained."""
    if not (bound := run.certificate):
        return None
    rows = [
        (
            f"{old['prompt']}, {run.group_name(old['prompt'], old['group'])}".removesuffix(
                " group"
            ),
            Quantity.of(old, "risk"),
            Quantity.of(new, "risk"),
        )
        for old, new in zip(bound["before"]["groups"], bound["after"]["groups"], strict=True)
    ]
    axis = "denoising risk (lower is better)"
    return BeforeAfter(plots.dumbbell(rows, axis, text=significant), rows)


def profile_charts(run: Inputs) -> dict[str, InlinePicture]:
    """Prompt -> the excess of its groups over the noise levels."""
    shown = list(run.prompts.items())[:PICTURED_PROMPTS]
    return {p: plots.plot_profile(one.profile) for p, one in shown if one.found and one.profile}


def reliability_chart(run: Inputs) -> InlinePicture | None:
    """The reliability of the score at each noise level."""
    levels, values = run.discovery.levels, run.discovery.reliability
    if len(levels) != len(values) or run.best_reliability is None:
        return None
    return plots.plot_reliability(levels, values)


def most_certain_pictures(run: Inputs, samples: Samples) -> dict[str, dict[int, InlinePicture]]:
    """Prompt -> group -> the training images that belong to it most surely."""
    shown = list(run.prompts.items())[:PICTURED_PROMPTS]
    grids: dict[str, dict[int, InlinePicture]] = {}
    for prompt, entry in shown:
        for group in range(len(entry.groups) if entry.found else 0):
            if made := montage.most_certain(run, samples, prompt, group):
                grids.setdefault(prompt, {})[group] = made
    return grids


def attribute_pictures(run: Inputs, samples: Samples) -> dict[str, dict[str, InlinePicture]]:
    """Attribute -> its values -> training pictures that have them most surely."""
    place = {sample: at for at, sample in enumerate(samples.sample_id)}
    grids: dict[str, dict[str, InlinePicture]] = {}
    for one in list(run.attributes)[:PICTURED_ATTRIBUTES]:
        for name, shown in (("value 0", one.value_0), ("value 1", one.value_1)):
            if rows := [place[sample] for sample in shown if sample in place]:
                grids.setdefault(one.id, {})[name] = montage.grid(list(samples.pictures(rows)))
    return grids


def generated_pictures(run: Inputs) -> dict[str, dict[float, dict[str, InlinePicture]]]:
    """Prompt -> guidance scale -> model -> the first seeds."""
    shown = run.sampled_prompts[:PICTURED_PROMPTS]
    scales = sorted(set(run.samples.get("scale") or ()))
    seeds = montage.seeds_shown(len(shown) * len(scales) * len(ARMS))
    grids: dict[str, dict[float, dict[str, InlinePicture]]] = {}
    for prompt in shown:
        for scale in scales:
            if made := montage.generated(run, prompt, scale, seeds):
                grids.setdefault(prompt, {})[scale] = made
    return grids
