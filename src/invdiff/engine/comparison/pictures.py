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
from invdiff.engine.comparison.figures import PAIRED, Drawing, Figure, Sides, with_intervals
from invdiff.engine.comparison.request import DISTANCES, DIVERSITY, MANIFOLDS, ComparisonProtocol

Features = NDArray[np.float32]
Parts = tuple[InfluenceExpansion, str]


def from_features(
    features: Mapping[str, Features],
    extractor: str,
    family: str,
    sides: Sides,
    protocol: ComparisonProtocol,
    drawing: Drawing,
) -> list[Figure]:
    """All figures of this family in the features of one extractor.

    ``features`` by set: "a", "b" and perhaps "reference"; without one, "b" is compared with "a".

    Raises:
        InvDiffError: too few pictures, or features that do not compare.
    """
    alone = family == DIVERSITY
    against = "reference" if "reference" in features else "a"
    found = {
        of: _parts(family, features[of], features[against], prompts, protocol, drawing.seed)
        for of, prompts in sides.prompts.items()
        if alone or of != against
    }
    about = {
        "extractor": extractor,
        "against": "" if alone else against,
        "reference_images": 0 if alone else len(features[against]),
    }
    figures: list[Figure] = []
    for name in found["b"]:
        parts = {of: known[name] for of, known in found.items()}
        figures += _of_each(name, parts, sides, drawing, **about)
    return figures


def clip_t(
    fits: Mapping[str, NDArray[np.float64]], model: str, sides: Sides, drawing: Drawing
) -> list[Figure]:
    """CLIP-T of both sets and its difference from 100 x the cosine of each picture and prompt."""
    means = {of: (mean_of(np.maximum(values, 0)), "") for of, values in fits.items()}
    return list(_of_each("clip_t", means, sides, drawing, extractor=model))


def _of_each(
    name: str, found: Mapping[str, Parts], sides: Sides, drawing: Drawing, **about: Any
) -> Iterator[Figure]:
    """The figure of each set and, where there are both, that of the second less the first."""
    least = 0.0 if name == "frechet" else -np.inf
    about["name"] = name
    for of, (parts, note) in found.items():
        prompts = sides.prompts[of]
        about |= {"of": of, "images": len(prompts), "note": note}
        yield with_intervals(parts, prompts, prompts, drawing, least, **about)
    if "a" in found:
        less, strata, each = sides.difference(found["a"][0], found["b"][0])
        about |= {"of": "b - a", "images": len(less.parts), "note": PAIRED if sides.paired else ""}
        yield with_intervals(less, strata, each, drawing, **about)


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
