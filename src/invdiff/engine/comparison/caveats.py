"""What a reader of the figures must know, found out from the figures' own circumstances."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from invdiff.data.gallery import Gallery
from invdiff.data.pictures import StoredAs
from invdiff.data.readers.listing import first_few
from invdiff.engine.classifiers.error_table import warning
from invdiff.engine.comparison.figures import CONFIDENCE, Sides
from invdiff.engine.comparison.labels import Attribute
from invdiff.engine.comparison.request import ComparisonProtocol

FEW = 2000
FEW_A_PROMPT = 100
FIRST = 3
LOSSLESS = ("array", "BMP", "PNG")
SETS_DIFFER = (
    "The files of the sets differ in {}. That may be part of distances, precision and recall, "
    "whatever the pictures show: make the files alike to tell it apart."
)


def of_sets(galleries: Mapping[str, Gallery], sides: Sides) -> Iterator[str]:
    """Few pictures, unequal counts, copies, one set that is the other."""
    counts = {of: len(gallery) for of, gallery in galleries.items()}
    fewest = min(counts.values())
    if fewest < FEW:
        yield (
            f"Few pictures ({fewest:,}): the Fréchet distance is too large by an amount that "
            "depends on how many there are, so compare it only at equal counts. The kernel "
            "distance (KID) does not have this error."
        )
    if "reference" in counts and counts["a"] != counts["b"]:
        yield (
            f"The sets have {counts['a']:,} and {counts['b']:,} pictures: their Fréchet distances, "
            "recalls and coverages do not compare."
        )
    for gallery in galleries.values():
        if gallery.repeated:
            yield (
                f"{gallery.path.name}: {gallery.repeated:,} of {len(gallery):,} pictures are exact "
                "copies of others. They were counted."
            )
        if gallery.one_colour:
            yield (
                f"{gallery.path.name}: {len(gallery.one_colour):,} of {len(gallery):,} pictures "
                f"are of one colour throughout ({some_of(gallery.one_colour)}). They were counted."
            )
        if gallery.left_out:
            yield (
                f"{gallery.path.name}: {len(gallery.left_out):,} of {len(gallery.listing):,} "
                f"pictures were left out: {first_few(gallery.left_out)}."
            )
    if galleries["a"].digest == galleries["b"].digest:
        yield "Both folders hold the same pictures."
    least = min(min(Counter(one).values()) for one in sides.prompts.values())
    if least < FEW_A_PROMPT:
        yield (
            f"Few pictures of some prompts (down to {least}): shares and Bias are "
            "rough there, as their intervals tell."
        )


def differing_files(galleries: Mapping[str, Gallery], side: int) -> Iterator[str]:
    """Ways other than what they show in which the pictures of the sets differ.

    Kinds of files are told where they are too uneven for chance, finest detail where it alone tells
    the set of a picture; both at the confidence of the intervals.
    """
    names = [f"{one.path.name} ({of.upper()})" for of, one in galleries.items()]
    if len({one.path.name for one in galleries.values()}) == len(names):
        names = [one.path.name for one in galleries.values()]
    sets = dict(zip(names, galleries.values(), strict=True))
    found = [
        *kinds_of_files({name: one.stored for name, one in sets.items()}, side),
        *_finest_details({name: np.array(one.detail) for name, one in sets.items()}),
    ]
    yield from map(SETS_DIFFER.format, found)


def kinds_of_files(stored: Mapping[str, Sequence[StoredAs]], side: int) -> Iterator[str]:
    """Each way in which the files of sets differ by what their headers tell, with counts."""
    kinds: dict[str, Callable[[StoredAs], str]] = {
        "format": lambda one: "lossless" if one.format in LOSSLESS else one.format,
        "kind of pixels": lambda one: one.pixels,
        "colour profile": lambda one: one.profile or "sRGB",
        f"size (brought to {side} x {side} here)": lambda one: f"{one.size[0]} x {one.size[1]}",
    }
    for what, kind in kinds.items():
        counts = {name: Counter(map(kind, files)) for name, files in stored.items()}
        values = sorted({value for one in counts.values() for value in one})
        table = [[one[value] for value in values] for one in counts.values()]
        chance = stats.chi2_contingency(table, correction=False).pvalue if len(values) > 1 else 1
        if chance < 1 - CONFIDENCE:
            each = (
                f"{name} {some_of([f'{value} ({n:,})' for value, n in one.most_common()])}"
                for name, one in counts.items()
            )
            yield f"{what}: {'; '.join(each)}"


def _finest_details(details: Mapping[str, NDArray[np.float64]]) -> Iterator[str]:
    seen = {name: known[np.isfinite(known)] for name, known in details.items()}
    for one, other in combinations((name for name in seen if len(seen[name])), 2):
        found = stats.mannwhitneyu(seen[one], seen[other])
        above = max(share := found.statistic / (len(seen[one]) * len(seen[other])), 1 - share)
        if above >= CONFIDENCE and found.pvalue < 1 - CONFIDENCE:
            yield (
                f"finest detail, which alone tells the set in {above:.0%} of pairs of pictures: "
                f"{one} {np.median(seen[one]):.2f}, {other} {np.median(seen[other]):.2f} "
                "(0 is smooth, 1 noise). Resizing, smoothing and compression do that"
            )


def some_of(names: Sequence[str]) -> str:
    """The first names of many."""
    more = f" and {len(names) - FIRST:,} more" if len(names) > FIRST else ""
    return ", ".join(names[:FIRST]) + more


def of_extractors(
    looked: Mapping[str, Mapping[str, Any]],
    galleries: Mapping[str, Gallery],
    protocol: ComparisonProtocol,
) -> Iterator[str]:
    """More features than pictures, limits of the extractor, a protocol with other features."""
    fewest = min(len(gallery) for gallery in galleries.values())
    for name, facts in looked.items():
        if facts["features"] >= fewest and "distances" in facts["for"]:
            yield (
                f"{name} has {facts['features']:,} features and the smallest set {fewest:,} "
                "pictures: the covariance of the Fréchet distance is singular, and the distance "
                "far too large. Use KID, more pictures, or an extractor with fewer features."
            )
        if facts["limits"]:
            yield f"The extractor {name}: {facts['limits']}."
    if protocol.extractors and set(looked) != set(protocol.extractors):
        wanted = " and ".join(protocol.extractors)
        yield (
            f"The protocol {protocol.name} asks for the features of {wanted}; with "
            f"{', '.join(looked)} its figures compare with nobody's."
        )


def of_attributes(attributes: Sequence[Attribute]) -> Iterator[str]:
    """Classifiers that are often wrong, or of which nobody knows it."""
    for one in attributes:
        if one.classifier and (told := warning(one.classifier, one.name, one.claims)):
            yield told
        if one.claims:
            yield (
                f"{one.name} is classifier-estimated: what a picture looks like to the classifier, "
                "not what anybody is. Its errors were measured on its own held-out pictures, "
                "which yours may not resemble."
            )
