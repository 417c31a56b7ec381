"""What a reader of the figures must know, found out from the figures' own circumstances."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from invdiff.data.gallery import Gallery
from invdiff.engine.comparison.figures import Sides
from invdiff.engine.comparison.labels import Attribute
from invdiff.engine.comparison.request import ComparisonProtocol

FEW = 2000
FEW_A_PROMPT = 100
LEAST_ACCURACY = 0.9


def of_sets(galleries: Mapping[str, Gallery], sides: Sides) -> Iterator[str]:
    """Few pictures, unequal counts, copies, one set that is the other."""
    counts = {of: len(gallery) for of, gallery in galleries.items()}
    fewest = min(counts.values())
    if fewest < FEW:
        yield (
            f"Few pictures ({fewest:,}): the Frechet distance is too large by an amount that "
            "depends on how many there are, so compare it only at equal counts. The kernel "
            "distance (KID) does not have this error."
        )
    if "reference" in counts and counts["a"] != counts["b"]:
        yield (
            f"The sets have {counts['a']:,} and {counts['b']:,} pictures: their Frechet distances, "
            "recalls and coverages do not compare."
        )
    for gallery in galleries.values():
        if gallery.repeated:
            yield (
                f"{gallery.path.name}: {gallery.repeated:,} of {len(gallery):,} pictures are exact "
                "copies of others. They were counted."
            )
    if galleries["a"].digest == galleries["b"].digest:
        yield "Both folders hold the same pictures."
    least = min(min(Counter(one).values()) for one in sides.prompts.values())
    if least < FEW_A_PROMPT:
        yield (
            f"Few pictures of some prompts (down to {least}): shares and Bias are "
            "rough there, as their intervals tell."
        )


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
                "pictures: the covariance of the Frechet distance is singular, and the distance "
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
    """Classifiers that are often wrong."""
    for one in attributes:
        accuracy = one.claims.get("accuracy")
        if accuracy is not None and accuracy < LEAST_ACCURACY:
            yield (
                f"The classifier of {one.name} was right on {accuracy:.1%} of its held-out "
                f"pictures, less than {LEAST_ACCURACY:.0%}: read the error-corrected shares."
            )
        if one.is_estimated and "confusion" not in one.claims:
            yield (
                f"{one.name} is classifier-estimated, and how often the classifier is wrong was "
                "not measured: shares and Bias are not corrected for it, and may be far off."
            )
        if one.claims:
            yield (
                f"{one.name} is classifier-estimated: what a picture looks like to the classifier, "
                "not what anybody is. Its errors were measured on its own held-out pictures, "
                "which yours may not resemble."
            )
