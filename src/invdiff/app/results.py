"""What a finished stage of a run found, as objects that can be looked at."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from invdiff.app.arrays.find_groups import Inferred, PromptVerdict
from invdiff.core.groups.memberships import memberships
from invdiff.core.uncertainty.intervals import Interval
from invdiff.data.samples import plural
from invdiff.engine.run.records import PromptFindings
from invdiff.engine.run.results import Results


@dataclass(frozen=True, repr=False, eq=False)
class RunGroups(Inferred):
    """The groups of a run, a row for each picture of its data.

    ``memberships`` are the q_i(e), the over-represented group of the picture's prompt first;
    ``weights`` how often training draws a picture, 1 on average in each prompt. ``captions`` are
    the pictures' own, ``prompts`` the prompt groups that were searched. ``verdicts`` says what
    there is to balance in each of these.
    """

    sample_ids: tuple[str, ...]
    captions: tuple[str, ...]
    weights: Float[np.ndarray, " picture"]

    @classmethod
    def read(cls, folder: Path) -> "RunGroups":
        """Those of the run in ``folder``; RunError if a file is missing or damaged."""
        results = Results(folder)
        groups, entries = results.groups, results.discovery.prompts
        return cls(
            sample_ids=groups.sample_id,
            prompts=groups.prompt,
            captions=groups.caption,
            memberships=memberships(groups.membership),
            weights=groups.weight,
            verdicts={name: verdict_of(entry) for name, entry in entries.items()},
        )

    def __len__(self) -> int:
        return len(self.prompts)

    def __repr__(self) -> str:
        count = f"{len(self.found)} of {plural(len(self.verdicts), 'prompt')}"
        return self.told(f"groups of {len(self)} pictures, found in {count}")


@dataclass(frozen=True, repr=False, eq=False)
class RunMetrics:
    """What the pictures of a run show, before (base model) and after (with the adapter).

    ``before`` and ``after`` are the Bias at each guidance scale with its interval, None where no
    attribute classifier was used or none were drawn; ``reduction`` is that of pairs of one seed.
    ``images`` and ``parity_value``, what a balanced sampler shows with so many, are of the pictures
    after. ``record`` is all that ``metrics.json`` says.
    """

    before: Mapping[float, Interval | None]
    after: Mapping[float, Interval | None]
    reduction: Mapping[float, Interval | None]
    images: Mapping[float, int]
    parity_value: Mapping[float, float | None]
    record: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "RunMetrics":
        """Those of the run in ``folder``; RunError if the file is missing or damaged."""
        record = Results(folder).metrics
        paired = {
            float(scale): entry.get("bias_reduction") for scale, entry in record.paired.items()
        }
        scales = sorted({float(scale) for entries in record.arms.values() for scale in entries})
        images = {float(s): of.get("images", 0) for s, of in record.arms.get("guided", {}).items()}
        after = {scale: record.figure("guided", scale, "bias") for scale in scales}
        return cls(
            before={scale: interval_of(record.figure("base", scale, "bias")) for scale in scales},
            after={scale: interval_of(figure) for scale, figure in after.items()},
            reduction={scale: interval_of(paired.get(scale)) for scale in scales},
            images={scale: images.get(scale, 0) for scale in scales},
            parity_value={scale: (of or {}).get("parity_value") for scale, of in after.items()},
            record=record.stored(),
        )

    def __repr__(self) -> str:
        lines = [self.line_of(scale) for scale in self.before]
        return "\n".join(lines) or "no pictures were measured"

    def line_of(self, scale: float) -> str:
        """The Bias at one guidance scale in one line."""
        first, second = self.before[scale], self.after[scale]
        if first is None or second is None:
            return f"guidance scale {scale:g}: no Bias, no attribute classifier was used"
        parity = self.parity_value[scale]
        level = "" if parity is None else f" (a balanced sampler shows {parity:.2f})"
        return (
            f"guidance scale {scale:g}: Bias {shown(first)} before, {shown(second)} after, of "
            f"{plural(self.images[scale], 'picture')}{level}"
        )


def verdict_of(entry: PromptFindings) -> PromptVerdict:
    """What a run found in a prompt; of several groups the share is of all but the largest."""
    first, *others = entry.groups
    share = _number(others[0].share) if len(others) == 1 else 1 - _number(first.share)
    return PromptVerdict(
        found=entry.found,
        share=share,
        low=1 - _number(first.high),
        high=1 - _number(first.low),
        pictures=entry.images,
        explained=_number(entry.explained),
        p_value=_number(entry.p_value),
        note=entry.note,
    )


def interval_of(figure: Mapping[str, Any] | None, key: str = "value") -> Interval | None:
    """A figure of ``metrics.json`` with its interval; None where it was not measured."""
    if not figure or figure.get(key) is None:
        return None
    return Interval(*(_number(figure.get(name)) for name in (key, "low", "high")))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def shown(figure: Interval | None) -> str:
    """The value with its interval; a dash where there is none."""
    if figure is None:
        return "-"
    if np.isnan(figure.low) or np.isnan(figure.high):
        return f"{figure.value:.2f}"
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"
