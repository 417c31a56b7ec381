"""Which drawings and pictures a run has: what each shows, taken from the facts of the run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from invdiff.app.report import montage, plots
from invdiff.app.report.facts import ARMS
from invdiff.app.report.inputs import Inputs, group_name
from invdiff.app.report.montage import InlinePicture
from invdiff.app.report.plots import DumbbellRow
from invdiff.app.report.quantities import Quantity, percent, shortest, significant
from invdiff.data.samples import Samples

PICTURED_PROMPTS = 8  # pictures of more prompts would make the file too large to send


@dataclass(frozen=True)
class BeforeAfter:
    """A drawing of quantities before and after, and the rows that it shows."""

    picture: InlinePicture
    rows: Sequence[DumbbellRow]


def summary_chart(run: Inputs) -> BeforeAfter | None:
    """Bias before and after for each guidance scale; the estimated gap without a classifier."""
    axis = "Bias (0 = parity, 1 = one class only)"
    rows = []
    if run.has_shares:
        for scale in run.scales:
            label = f"guidance scale {shortest(scale)}"
            rows.append((label, *run.both(scale, "bias")))
    elif found := run.calibrated:
        axis = "estimated gap between the inferred groups (0 = parity)"
        label = f"guidance scale {found.guidance_scale:g}"
        rows = [(label, *(Quantity.of(point, "gap") for point in (found.before, found.chosen)))]
    return BeforeAfter(plots.dumbbell(rows, axis, limits=(0.0, 1.0)), rows) if rows else None


def share_charts(run: Inputs) -> dict[str, BeforeAfter]:
    """Guidance scale -> the shares of the classes for each prompt."""
    shown = run.shown_classes
    one_class = len(shown) == 1
    axis = f"share classified as {shown[0]}" if one_class else "share of the images"
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


def training_pictures(run: Inputs, samples: Samples) -> dict[str, dict[int, InlinePicture]]:
    """Prompt -> group -> the training images that belong to it most surely."""
    shown = list(run.prompts.items())[:PICTURED_PROMPTS]
    grids: dict[str, dict[int, InlinePicture]] = {}
    for prompt, entry in shown:
        for group in range(len(entry.groups) if entry.found else 0):
            if made := montage.most_certain(run, samples, prompt, group):
                grids.setdefault(prompt, {})[group] = made
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
