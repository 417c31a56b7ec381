"""The figures of one arm at one guidance scale, in the form in which ``metrics.json`` has them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.core.measurement import explicit_prompts as named
from invdiff.core.measurement import fidelity, parity
from invdiff.core.uncertainty import counted, intervals
from invdiff.core.uncertainty.counted import UNDONE
from invdiff.engine.classifiers.classify import ClassifiedPictures
from invdiff.engine.classifiers.error_table import ABSTAINED
from invdiff.errors import InvDiffError

CONFIDENCE = 0.95
RESAMPLES = 2000
"""Bootstrap resamples of an interval: its ends move by a twentieth of its width at most."""
NEIGHBOURS = 3
"""Of precision, recall and coverage; what Kynkaanniemi et al. (2019) take."""
OUTSIDE = (
    "The value lies above its interval: counts are never exactly even, and with so few pictures of "
    "each prompt that alone adds more than the interval is wide. `corrected` leaves it out."
)


@dataclass(frozen=True)
class MetricProtocol:
    """What is the same for all arms.

    ``attribute`` is the one whose parity is measured, over ``prompts``; ``named`` are the prompts
    that name a class of it, with that class: they are to keep it. ``claims`` are the
    classifier's classes and, where they were measured, accuracy and confusion by attribute;
    ``references`` the features of real pictures by name, the first being the one for precision,
    recall and coverage. ``abstains`` tells whether a picture can be in no class.
    """

    attribute: str
    prompts: tuple[str, ...]
    claims: Mapping[str, Mapping[str, Any]]
    references: Mapping[str, NDArray[np.floating[Any]]]
    resamples: int = RESAMPLES
    neighbours: int = NEIGHBOURS
    seed: int = 0
    abstains: bool = False
    named: Mapping[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """The classes of the measured attribute."""
        return list(self.claims[self.attribute]["classes"])

    @property
    def drawing(self) -> tuple[int, int, float]:
        """How intervals are drawn: resamples, seed and confidence."""
        return self.resamples, self.seed, CONFIDENCE

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Held-out pictures by true (row) and estimated class of the measured attribute."""
        counts = self.claims[self.attribute].get("confusion")
        if counts is None:
            raise InvDiffError("how often the classifier is wrong was not measured")
        return np.asarray(counts)


def measure_samples(
    seen: ClassifiedPictures, protocol: MetricProtocol
) -> tuple[dict[str, Any], list[str]]:
    """The figures of one arm, and a sentence for each that could not be measured."""
    notes: list[str] = []
    sampled = sorted(set(seen.prompt.tolist()) | set(protocol.prompts))
    klass = seen.estimated[protocol.attribute].tolist()
    columns = [*protocol.classes, ABSTAINED] if protocol.abstains else protocol.classes
    every = parity.table(seen.prompt.tolist(), klass, sampled, columns)
    counts = every[:, : len(protocol.classes)]
    undone = _attempt(
        notes,
        "error-corrected shares",
        lambda: counted.shares_undone(every, protocol.confusion, protocol.drawing),
    )
    rows = [sampled.index(prompt) for prompt in protocol.prompts]
    bias = counted.bias_of(counts[rows], protocol.drawing)
    worst = counted.worst_prompt(counts[rows], protocol.drawing)
    even = np.full(counts.shape[1], 1 / counts.shape[1])
    bias |= {
        "worst_prompt": worst and {"prompt": protocol.prompts[worst[0]]} | worst[1],
        "distance": parity.distance(counts[rows], even),
    }
    bias |= {"note": OUTSIDE} if bias["value"] > bias["high"] else {}
    if undone is None:
        bias |= dict.fromkeys(UNDONE)
    else:
        bias |= counted.bias_undone(every[rows], protocol.confusion, protocol.drawing)
    found = {
        "images": len(seen.prompt),
        "strength": seen.strength,
        "shares": _shares(counts, undone, sampled, protocol.classes),
        "bias": bias,
        "fidelity": _prompt_fidelity(seen, protocol, notes),
    }
    if protocol.abstains:
        unclear = every[:, -1]
        by_prompt = dict(zip(sampled, unclear.tolist(), strict=True))
        found["abstained"] = {"count": int(unclear.sum()), "prompts": by_prompt}
    if protocol.named:
        found["explicit"] = _each_and_all(
            protocol, lambda some: named.showing(seen.prompt.tolist(), klass, some)
        )
    return found | _distances(seen.features, protocol, notes), notes


def _distances(
    features: NDArray[np.floating[Any]] | None, protocol: MetricProtocol, notes: list[str]
) -> dict[str, Any]:
    """How far the pictures are from real ones, in the features of the classifier."""
    if features is None or not protocol.references:
        notes.append("Not measured: distances to real pictures (labels have no features).")
        return {"frechet": {}}
    found: dict[str, Any] = {"frechet": {}}
    for name, real in protocol.references.items():
        if far := _attempt(notes, "Fréchet distance", fidelity.frechet, features, real):
            known = {key: value for key, value in asdict(far).items() if value != ""}
            found["frechet"][name] = known
    name, real = next(iter(protocol.references.items()))
    what = "precision, recall and coverage"
    both = _attempt(notes, what, fidelity.manifolds, features, real, protocol.neighbours)
    for figure in ("precision", "recall", "coverage") if both else ():
        about = {"neighbours": protocol.neighbours, "reference": name}
        about |= {"images": len(features), "reference_images": len(real)}
        found[figure] = {"value": getattr(both, figure).mean()} | about
    return found


def explicit_kept(
    before: ClassifiedPictures, after: ClassifiedPictures, protocol: MetricProtocol
) -> dict[str, Any]:
    """Of the first pictures that show the class their prompt names, how many second ones do too."""
    rows = _pairs(before, after, protocol)
    prompts, first, second = ([row[at] for row in rows] for at in range(3))
    return _each_and_all(protocol, lambda some: named.keeping(prompts, first, second, some))


def reduction_of_bias(
    before: ClassifiedPictures, after: ClassifiedPictures, protocol: MetricProtocol
) -> dict[str, Any]:
    """Bias before less after, over the pairs of pictures with one prompt and seed."""
    pairs = [
        row
        for row in _pairs(before, after, protocol)
        if row[0] in protocol.prompts and ABSTAINED not in row[1:]
    ]
    prompt_of, first, second = zip(*pairs, strict=True) if pairs else ((), (), ())
    joint = parity.joint_table(prompt_of, first, second, protocol.prompts, protocol.classes)
    return asdict(intervals.bias_reduction(joint, *protocol.drawing)) | {"pairs": len(pairs)}


def _pairs(
    before: ClassifiedPictures, after: ClassifiedPictures, protocol: MetricProtocol
) -> list[tuple[str, str, str]]:
    """Prompt and estimated classes of the pictures with one prompt and seed."""
    first, second = (seen.estimated[protocol.attribute].tolist() for seen in (before, after))
    keys = zip(before.prompt.tolist(), before.seed.tolist(), strict=True)
    known = dict(zip(keys, first, strict=True))
    rows = zip(after.prompt.tolist(), after.seed.tolist(), second, strict=True)
    return [
        (prompt, known[prompt, seed], klass)
        for prompt, seed, klass in rows
        if (prompt, seed) in known
    ]


def _each_and_all(
    protocol: MetricProtocol, figure: Callable[[Mapping[str, str]], tuple[int, int]]
) -> dict[str, Any]:
    """A count and its total over all prompts that name a class, and for each by itself."""
    each = {
        prompt: {"class": name} | counted.share_of(*figure({prompt: name}))
        for prompt, name in protocol.named.items()
    }
    return counted.share_of(*figure(protocol.named)) | {"prompts": each}


def _shares(
    counts: NDArray[np.int64],
    corrected: tuple[NDArray[np.floating[Any]], ...] | None,
    prompts: list[str],
    classes: list[str],
) -> dict[str, dict[str, Any]]:
    """For each prompt and class its share, count and interval."""
    totals = np.broadcast_to(counts.sum(1, keepdims=True), counts.shape)
    low, high = intervals.wilson(counts, totals, CONFIDENCE)
    columns = {"share": parity.shares(counts), "count": counts, "low": low, "high": high}
    columns |= dict(zip(UNDONE, corrected, strict=True)) if corrected else {}
    absent: dict[str, Any] = {} if corrected else dict.fromkeys(UNDONE)
    return {
        prompt: {
            klass: {name: values[p, k] for name, values in columns.items()} | absent
            for k, klass in enumerate(classes)
        }
        for p, prompt in enumerate(prompts)
    }


def _prompt_fidelity(
    seen: ClassifiedPictures, protocol: MetricProtocol, notes: list[str]
) -> dict[str, Any] | None:
    """Share of the pictures in which the classifier sees their own prompt."""
    known = np.isin(seen.prompt, protocol.claims.get("prompt", {}).get("classes", ()))
    if not known.any():
        notes.append("Fidelity was not measured: the classifier knows none of the prompts.")
        return None
    right = int(np.sum((seen.estimated["prompt"] == seen.prompt)[known]))
    return counted.share_of(right, int(known.sum()))


def _attempt(notes: list[str], what: str, figure: Any, *arguments: Any) -> Any:
    """The figure, or None and a note with the reason why it cannot be measured."""
    try:
        return figure(*arguments)
    except InvDiffError as problem:
        notes.append(f"Not measured: {what} ({problem}).")
        return None
