"""The records that the stages write as JSON, as types; :mod:`results` reads and writes them.

Numbers that are not finite are null in the files and None here.
"""

from collections.abc import Iterator, Mapping
from math import nan
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

Number = float | None


class Record(BaseModel):
    """What all records share: frozen; what a later version adds is kept, not refused."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())
    FILE: ClassVar[str] = ""
    """The file of the run folder that holds the record; empty for a part of another."""
    WAS: ClassVar[Mapping[str, str]] = {}
    """Name that an earlier version gave to a key -> its name today."""

    @model_validator(mode="before")
    @classmethod
    def _under_todays_names(cls, values: Any, info: ValidationInfo) -> Any:
        """Read old keys; the set that is the validation's context gets each with its name today."""
        for old, new in cls.WAS.items():
            if isinstance(values, Mapping) and old in values and new not in values:
                values = {new if key == old else key: value for key, value in values.items()}
                if info.context is not None:
                    info.context.add((old, new))
        return values

    def stored(self) -> dict[str, Any]:
        """The record as it is written."""
        return self.model_dump(exclude_unset=True)


class GroupShare(Record):
    """One inferred group of a prompt: its share of the pictures with its 95 % Wilson interval."""

    share: Number
    low: Number = None
    high: Number = None
    mean_excess: Number = None
    label: str | None = None


class PromptFindings(Record):
    """What discovery says about one prompt group.

    ``found``: there is something to balance. ``monitored``: the groups mean something here, so
    that shares are checked while training. ``p_value``: that of the attribute.
    """

    WAS = {"watched": "monitored"}

    found: bool
    monitored: bool = False
    note: str = ""
    images: int = 0
    scored: int = 0
    explained: Number = None
    p_value: Number = None
    groups: tuple[GroupShare, ...] = ()
    profile: dict[str, list[Number]] = {}
    captions: int = 1
    representatives: tuple[str, ...] = ()

    @property
    def left_alone(self) -> bool:
        """Whether there is a split that means something, about as even as it is wanted."""
        return not self.found and len(self.groups) > 1 and self.monitored


class ValueShare(Record):
    """The share of value 1 of an attribute under one prompt, with its 95 % Wilson interval."""

    share: float
    low: float
    high: float


class FoundAttribute(Record):
    """One attribute of ``attributes.json``; its memberships are a column of the parquet file.

    ``verdict`` is ``clear`` or ``unclear``. ``explained`` is the share of what pictures cost under
    the prompts that it explains, ``information`` how strongly it is tied to them, in nats,
    ``alignment`` the cosines, by noise level, of its shift with minus the log-odds of its shares,
    ``gap`` the distance of its values in sums of their standard deviations, ``negentropy`` how
    clearly they are two, in nats a picture, ``stability`` the agreement of two halves of the data
    (0.5 is chance). ``value_0``, ``value_1`` and ``border``
    are pictures: surest ones of both values, and ones between them.
    """

    id: str
    verdict: str
    tied: bool
    chosen: bool = False
    explained: Number = None
    information: Number = None
    alignment: tuple[Number, ...] = ()
    gap: Number = None
    negentropy: Number = None
    stability: Number = None
    p_value: Number = None
    origin: str = ""
    prompts: dict[str, ValueShare] = {}
    value_0: tuple[str, ...] = ()
    value_1: tuple[str, ...] = ()
    border: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called, here and in ``attributes.parquet``."""
        return f"attribute {self.id}"


class Attributes(Record):
    """``attributes.json``: what was found, the most tied to the prompts first."""

    FILE = "attributes.json"

    attributes: tuple[FoundAttribute, ...] = ()
    read_from: str = ""

    def __iter__(self) -> Iterator[FoundAttribute]:  # type: ignore[override]
        return iter(self.attributes)

    def __len__(self) -> int:
        return len(self.attributes)

    def __repr__(self) -> str:
        lines = [
            f"  {one.id}: {one.verdict}, {'tied' if one.tied else 'not tied'}, shares "
            + ", ".join(f"{share.share:.2f}" for share in one.prompts.values())
            for one in self.attributes
        ]
        return "\n".join([f"Attributes({len(self)} found)", *lines])

    __str__ = __repr__


class RankedCandidate(Record):
    """A candidate with the value of the objective that it was ranked by."""

    WAS = {"worth": "objective"}

    name: str
    objective: Number


class Stability(Record):
    """The least agreement of the groups of two halves of the pictures; 0.5 is chance."""

    agreement: Number
    runs: int


class Discovery(Record):
    """``discovery.json``."""

    FILE = "discovery.json"

    estimator: str
    score: str | None = None
    candidate: str = ""
    levels: tuple[float, ...] = ()
    reliability: tuple[Number, ...] = ()
    images_scored: int = 0
    stability: Stability | None = None
    ranking: tuple[RankedCandidate, ...] = ()
    ranked_by: str = ""
    prompts: dict[str, PromptFindings]
    prompt_groups: dict[str, Any] = {}

    @property
    def found(self) -> list[str]:
        """The prompts in which there is something to balance, in alphabetical order."""
        return sorted(name for name, entry in self.prompts.items() if entry.found)

    @property
    def monitored(self) -> list[str]:
        """The prompts whose shares are checked while training, in alphabetical order."""
        return sorted(name for name, entry in self.prompts.items() if entry.monitored)

    @property
    def captions_drawn(self) -> dict[str, tuple[str, ...]]:
        """The captions that pictures of each prompt group are drawn with, in turn.

        Groups with too few images to be searched have no part in it.
        """
        return {name: entry.representatives for name, entry in self.prompts.items() if entry.scored}


class Training(Record):
    """``training.json``; ``curve`` and ``validation`` have the keys step and loss."""

    FILE = "training.json"
    WAS = {"looks": "mid_training_checks"}

    steps: int = 0
    skipped: bool = False
    processes: int = 1
    curve: dict[str, list[Number]] = {}
    validation: dict[str, list[Number]] = {}
    bad_steps: tuple[dict[str, Any], ...] = ()
    parameters: int = 0
    base_parameters: int = 0
    aims: dict[str, Any] = {}
    mid_training_checks: tuple[dict[str, Any], ...] = ()
    regrets: dict[str, Any] = {}
    certificate: dict[str, Any] | None = None
    seconds: Number = None


class CalibrationPoint(Record):
    """One strength that was tried: the estimated gap from the wanted shares, with its interval.

    ``own_prompt`` has for each prompt how many of its ``images`` show it; ``vetoed`` strengths
    lose prompts, with the p-value ``prompts_lost_p`` of chance alone.
    """

    strength: float
    gap: Number
    above: Number = None
    low: Number = None
    high: Number = None
    images: int = 0
    shares: dict[str, Any] = {}
    own_prompt: dict[str, dict[str, int]] = {}
    prompts_lost_p: Number = None
    vetoed: bool = False

    @property
    def shown(self) -> float:
        """The share of the pictures that show their own prompt; NaN where it is not known."""
        images = sum(one["images"] for one in self.own_prompt.values())
        return sum(one["shown"] for one in self.own_prompt.values()) / images if images else nan


class Calibration(Record):
    """``adapter/calibration.json``; ``strength`` is the recommended one."""

    FILE = "adapter/calibration.json"

    guidance_scale: float
    tolerance: float = 0.0
    images_per_prompt: int = 0
    strength: float
    curve: tuple[CalibrationPoint, ...] = ()

    @property
    def before(self) -> CalibrationPoint:
        """The point of the base model."""
        return min(self.curve, key=lambda point: abs(point.strength))

    @property
    def chosen(self) -> CalibrationPoint:
        """The point of the chosen strength."""
        return min(self.curve, key=lambda point: abs(point.strength - self.strength))

    @property
    def vetoed(self) -> list[float]:
        """The strengths that lose prompts."""
        return [point.strength for point in self.curve if point.vetoed]

    def __str__(self) -> str:
        if not self.curve:
            return f"adapter strength {self.strength:g}, not calibrated"
        chosen, base = self.chosen, self.before
        gap, before = (nan if point.gap is None else point.gap for point in (chosen, base))
        said = [f"adapter strength {self.strength:g}: estimated gap {gap:.2f}, {before:.2f} before"]
        if gap > self.tolerance:
            said.append(f"more than the tolerance of {self.tolerance:g}")
        if base.own_prompt:
            shown, at_base = 100 * chosen.shown, 100 * base.shown
            said.append(f"{shown:.0f} % of its pictures show their prompt, {at_base:.0f} % before")
        if lost := ", ".join(f"{strength:g}" for strength in self.vetoed):
            said.append(f"not {lost}, where fewer do than chance explains")
        return "; ".join(said)


class Metrics(Record):
    """``metrics.json``: ``arms`` by arm ("base", "guided") and guidance scale ("2.5").

    Each figure is a mapping with its value, interval ends, count and, for Bias, the value that a
    balanced sampler would show (docs: Reference, Files of a run).
    """

    FILE = "metrics.json"

    protocol: dict[str, Any] = {}
    classifier: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    arms: dict[str, dict[str, dict[str, Any]]] = {}
    paired: dict[str, dict[str, Any]] = {}
    not_measured: tuple[str, ...] = ()
    groups_vs_labels: dict[str, Any] | None = None
    strength_curve: tuple[dict[str, Any], ...] | None = None

    def figure(self, arm: str, scale: float | str, name: str) -> dict[str, Any] | None:
        """A figure such as ``figure("guided", 2.5, "bias")``; None if it was not measured."""
        by_scale = {float(key): entry for key, entry in self.arms.get(arm, {}).items()}
        return by_scale.get(float(scale), {}).get(name)

    def __repr__(self) -> str:
        parts = [f"{arm} {_bias(entries)}" for arm, entries in self.arms.items()]
        return f"Metrics({'; '.join(parts) or 'nothing measured'})"


def _bias(entries: Mapping[str, Mapping[str, Any]]) -> str:
    told = [
        f"Bias {entry['bias']['value']:.2f} [{entry['bias']['low']:.2f}, "
        f"{entry['bias']['high']:.2f}] at scale {scale}"
        for scale, entry in entries.items()
        if entry.get("bias")
    ]
    return ", ".join(told) or "without a classifier"
