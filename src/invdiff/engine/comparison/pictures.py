"""Figures that need no attribute: distances, manifolds, diversity, and how texts fit pictures."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.core.measurement import fidelity
from invdiff.core.measurement.influence import (
    InfluenceExpansion,
    diversity,
    frechet_parts,
    influence,
    kid_parts,
    mean_of,
)
from invdiff.engine.comparison.pairs import PAIRED, Sides
from invdiff.engine.comparison.protocols import DISTANCES, DIVERSITY, MANIFOLDS, ComparisonProtocol
from invdiff.engine.comparison.record import Drawing, Figure, with_intervals

Features = NDArray[np.float32]
Parts = tuple[InfluenceExpansion, str]


def from_features(
    features: Mapping[str, Features],
    extractor: str,
    families: tuple[str, ...],
    sides: Sides,
    protocol: ComparisonProtocol,
    drawing: Drawing,
) -> Iterator[Figure]:
    """All figures of these families in the features of one extractor.

    ``features`` by set: "a", "b" and perhaps "reference"; without one, "b" is compared with "a".

    Raises:
        InvDiffError: too few pictures, or features that do not compare.
    """
    prompts = {"a": sides.first, "b": sides.second}
    against = "reference" if "reference" in features else "a"
    for family in families:
        alone = family == DIVERSITY
        both = alone or against == "reference"
        found = {
            of: _parts(family, features[of], features[against], prompts[of], protocol, drawing.seed)
            for of in (("a", "b") if both else ("b",))
        }
        for name in found["b"]:
            about = {
                "name": name,
                "extractor": extractor,
                "against": "" if alone else against,
                "reference_images": 0 if alone else len(features[against]),
            }
            for of, parts in found.items():
                yield _one(of, parts[name], prompts[of], drawing, about)
            if both:
                yield _less(found["a"][name][0], found["b"][name][0], sides, drawing, about)


def clip_t(
    fits: Mapping[str, NDArray[np.float64]], model: str, sides: Sides, drawing: Drawing
) -> Iterator[Figure]:
    """CLIP-T of both sets and its difference from 100 x the cosine of each picture and prompt."""
    means = {of: mean_of(np.maximum(values, 0)) for of, values in fits.items()}
    prompts = {"a": sides.first, "b": sides.second}
    about = {"name": "clip_t", "extractor": model}
    for of, linear in means.items():
        yield _one(of, (linear, ""), prompts[of], drawing, about)
    yield _less(means["a"], means["b"], sides, drawing, about)


def _one(
    of: str,
    parts: Parts,
    prompt_of: tuple[str, ...],
    drawing: Drawing,
    about: Mapping[str, Any],
) -> Figure:
    linear, note = parts
    least = 0.0 if about["name"] == "frechet" else -np.inf
    return with_intervals(
        linear, prompt_of, prompt_of, drawing, least, of=of, images=len(prompt_of), note=note,
        **about,
    )  # fmt: skip


def _less(
    before: InfluenceExpansion,
    after: InfluenceExpansion,
    sides: Sides,
    drawing: Drawing,
    about: Mapping[str, Any],
) -> Figure:
    linear, strata, prompts = sides.less(before, after)
    note = PAIRED if sides.paired else ""
    count = len(before.parts) if sides.paired else len(strata)
    return with_intervals(
        linear, strata, prompts, drawing, of="a - b", images=count, note=note, **about
    )


def _parts(
    family: str,
    images: Features,
    reference: Features,
    prompt_of: tuple[str, ...],
    protocol: ComparisonProtocol,
    seed: int,
) -> dict[str, Parts]:
    """The figures of one family by name, each with a remark."""
    if family == DIVERSITY:
        return {DIVERSITY: (diversity(images, prompt_of, with_itself=protocol.with_itself), "")}
    if family == MANIFOLDS:
        return _manifolds(images, reference, protocol.neighbours)
    assert family == DISTANCES, family
    if protocol.draws:
        return {"frechet": _of_draws(images, reference, protocol.draws, seed)}
    frechet = fidelity.frechet(images, reference)
    return {
        "frechet": (frechet_parts(frechet.value, images, reference), frechet.note),
        "kid": (kid_parts(images, reference), ""),
    }


def _of_draws(images: Features, reference: Features, draws: int, seed: int) -> Parts:
    """The distance of pictures drawn with replacement, as the authors take it: no interval."""
    random = np.random.default_rng(seed)
    one, two = (some[random.integers(0, len(some), draws)] for some in (images, reference))
    unknown = np.full(len(images), np.nan), np.full(len(reference), np.nan)
    frechet = fidelity.frechet(one, two)
    notes = [f"{draws} draws with replacement", *filter(None, (frechet.note,))]
    return InfluenceExpansion(frechet.value, *unknown), "; ".join(notes)


def _manifolds(images: Features, reference: Features, neighbours: int) -> dict[str, Parts]:
    """Precision and density are means over images, recall and coverage over the reference.

    Their intervals are over what they are means of, with the other set as it is.
    """
    found = fidelity.manifolds(images, reference, neighbours)
    still, here = np.zeros(len(images)), np.zeros(len(reference))
    figures: dict[str, Parts] = {}
    for name in ("precision", "recall", "density", "coverage"):
        values = getattr(found, name)
        of_images = name in ("precision", "density")
        parts = (influence(values), here) if of_images else (still, influence(values))
        figures[name] = (InfluenceExpansion(float(values.mean()), *parts), "")
    return figures
