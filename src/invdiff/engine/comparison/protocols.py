"""The choices behind a figure, by name: figures compare only within one protocol."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from invdiff.model.vision.extractors.common import Preparation

DISTANCES, MANIFOLDS, DIVERSITY = "distances", "manifolds", "diversity"
FAMILIES = (DISTANCES, MANIFOLDS, DIVERSITY)


@dataclass(frozen=True)
class ComparisonProtocol:
    """What is done to pictures and features.

    ``neighbours`` is k of precision, recall, density and coverage. ``draws`` images of each set are
    drawn at random with replacement for distances; 0 takes each image once. ``with_itself``
    compares images with themselves in the diversity. ``extractors`` are those that the protocol
    asks for, with the families of figures each is for; empty: the best that is there, for all.
    """

    name: str
    preparation: Preparation
    neighbours: int
    draws: int
    with_itself: bool
    extractors: Mapping[str, tuple[str, ...]]
    words: str

    def record(self) -> dict[str, Any]:
        """The choices as ``metrics.json`` has them."""
        how = self.preparation
        return {
            "name": self.name,
            "resized_to": how.square or None,
            "resampling_to_input": how.to_input,
            "channel_statistics": how.normalise,
            "neighbours": self.neighbours,
            "drawn_with_replacement": self.draws or None,
            "self_pairs": self.with_itself,
            "words": self.words,
        }


PROTOCOLS = {
    "standard": ComparisonProtocol(
        name="standard",
        preparation=Preparation(),
        neighbours=5,
        draws=0,
        with_itself=False,
        extractors={},
        words="Pictures keep their stored size until one antialiased bicubic resize to the input "
        "of the extractor, whose own channel statistics are applied. Every picture is used once, "
        "no picture is compared with itself, k = 5.",
    ),
    # what src/test.py and src/utils/score of the authors' released code do
    "official": ComparisonProtocol(
        name="official",
        preparation=Preparation(square=255, to_input="nearest", normalise=False),
        neighbours=2,
        draws=1024,
        with_itself=True,
        extractors={"inception": (DISTANCES,), "vgg16": (MANIFOLDS, DIVERSITY)},
        words="The choices of the authors' released code: pictures are resized to 255 x 255 "
        "bilinearly and then to the input of the extractor by nearest neighbour, without channel "
        "statistics; distances take 1,024 pictures of each set drawn at random with replacement; "
        "k = 2; the diversity averages over all pairs, those of a picture with itself included. "
        "Their diversity is LPIPS; here it is the mean distance of features.",
    ),
}
