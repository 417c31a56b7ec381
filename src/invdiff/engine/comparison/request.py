"""What is measured, and the choices behind it by name: figures compare only within one protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invdiff.errors import ConfigError
from invdiff.model.vision.extractors import DEFAULT
from invdiff.model.vision.extractors.common import Preparation

DISTANCES, MANIFOLDS, DIVERSITY = "distances", "manifolds", "diversity"
FAMILIES = (DISTANCES, MANIFOLDS, DIVERSITY)


@dataclass(frozen=True)
class ComparisonProtocol:
    """What is done to pictures and features.

    ``neighbours`` is k of precision, recall, density and coverage. ``draws`` images of each set are
    drawn at random with replacement for distances; 0 takes each image once. ``with_itself``
    compares images with themselves in the diversity. ``extractors`` are those that the protocol
    asks for, with the families of figures each is for; empty: the default, for all.
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


@dataclass(frozen=True)
class ComparisonRequest:
    """What to measure: the options of :func:`~invdiff.evaluate_folders`, which says what they are.

    ``first`` and ``second`` are compared, each with ``reference`` if there is one, else the second
    with the first.
    """

    first: str | Path
    second: str | Path
    reference: str | Path | None = None
    extractors: Sequence[str] = ()
    classifier: str = ""
    attribute: str = ""
    classes: Sequence[str] = ()
    labels: Sequence[str] = ()
    clip: str = ""
    protocol: str = "standard"
    target: Mapping[str, float] | None = None
    prompt_column: str = ""
    quarantine: str | Path = ""
    max_bad_share: float = 0.0
    side: int = 0
    seed: int = 0
    resamples: int = 1000
    processes: int = 1

    @property
    def chosen(self) -> ComparisonProtocol:
        """The protocol. ConfigError for an unknown name."""
        if self.protocol not in PROTOCOLS:
            known = " or ".join(PROTOCOLS)
            raise ConfigError(f"there is no protocol {self.protocol!r}: take {known}")
        return PROTOCOLS[self.protocol]

    @property
    def looking(self) -> Mapping[str, tuple[str, ...]]:
        """Extractors with the families of figures that each is for."""
        own = dict.fromkeys(self.extractors, FAMILIES)
        return own or self.chosen.extractors or {DEFAULT: FAMILIES}
