"""Measure two folders of pictures and write ``metrics.json``."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.data.gallery import Gallery, open_gallery
from invdiff.engine.comparison import attributes, caveats, pictures
from invdiff.engine.comparison.attributes import Attribute
from invdiff.engine.comparison.features import Features, Looker, each, extractor_of
from invdiff.engine.comparison.known_weights import folder as weights_folder
from invdiff.engine.comparison.labels import attributes_of
from invdiff.engine.comparison.pairs import Sides, sides
from invdiff.engine.comparison.protocols import FAMILIES, PROTOCOLS, ComparisonProtocol
from invdiff.engine.comparison.record import CONFIDENCE, Drawing, Figure
from invdiff.engine.run.environment import environment
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.storage.files import write_json
from invdiff.errors import ConfigError, DataError, InvDiffError, RunError
from invdiff.model.vision.extractors import DEFAULT, lite
from invdiff.model.vision.extractors.towers import load_clip

FALLBACK = "pixels"
NAMED = ("invdiff", "torch", "transformers", "numpy", "scipy")


@dataclass(frozen=True)
class ComparisonRequest:
    """What to measure.

    ``first`` and ``second`` are compared, each with ``reference`` if there is one, else the second
    with the first. ``extractors`` () takes what the protocol asks for. ``labels`` are columns of
    both, ``classifier`` "" for none; ``attribute`` and ``classes`` name what it estimates where it
    does not itself. ``target`` is the mix that shares should have, by class.
    ``side`` 0 keeps the stored size.
    """

    first: Path
    second: Path
    reference: Path | None = None
    extractors: tuple[str, ...] = ()
    classifier: str = ""
    attribute: str = ""
    classes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    clip: str = ""
    protocol: str = "standard"
    target: Mapping[str, float] = field(default_factory=dict)
    prompt_column: str = ""
    side: int = 0
    seed: int = 0
    resamples: int = 1000
    processes: int = 0
    weights: Path | None = None

    @property
    def chosen(self) -> ComparisonProtocol:
        """The protocol. ConfigError for an unknown name."""
        if self.protocol not in PROTOCOLS:
            known = " or ".join(PROTOCOLS)
            raise ConfigError(f"there is no protocol {self.protocol!r}: take {known}")
        return PROTOCOLS[self.protocol]


@dataclass(frozen=True)
class ComparisonResult:
    """What was measured: the record in ``metrics.json``, and the sets to show pictures of."""

    record: dict[str, Any]
    galleries: Mapping[str, Gallery]


def compare(asked: ComparisonRequest, out: Path) -> ComparisonResult:
    """Measure and write ``out/metrics.json``; features are kept in ``out/cache``.

    Raises:
        DataError: pictures or labels that cannot be used.
        ModelError, MissingExtra: an extractor or classifier that is not there.
        RunError: ``out`` is a run.
    """
    if RunFolder.is_run(out):
        raise RunError(f"{out} is a run of its own: give another --out for the two folders")
    protocol = asked.chosen
    galleries = _open(asked)
    work = _Work(asked, out, protocol, galleries, sides(galleries["a"], galleries["b"]))
    work.look()
    if asked.clip:
        work.read_prompts()
    work.see_attributes()
    record = work.record()
    write_json(out / "metrics.json", record)
    return ComparisonResult(record, galleries)


@dataclass
class _Work:
    """One comparison as it goes on: what was measured so far, and with what."""

    asked: ComparisonRequest
    out: Path
    protocol: ComparisonProtocol
    galleries: Mapping[str, Gallery]
    sides: Sides
    figures: list[Figure] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    looked: dict[str, Any] = field(default_factory=dict)
    attributes: list[Attribute] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        asked = self.asked
        self.drawing = Drawing(asked.resamples, asked.seed)
        self.weights = asked.weights or weights_folder()

    def look(self) -> None:
        """Distances, manifolds and diversity in the features of each extractor."""
        asked, protocol = self.asked, self.protocol
        looker = Looker(
            self.out / "cache", self.weights, protocol.preparation, asked.side, asked.processes
        )
        for name, families in _extractors(asked, protocol).items():
            extractor = extractor_of(name, self.weights)
            self.hashes[extractor.name] = extractor.sha256
            self.looked[extractor.name] = {
                "sha256": extractor.sha256,
                "features": extractor.dims,
                "input_side": extractor.side or None,
                "for": list(families),
                "limits": extractor.limits,
            }
            sets = self.galleries.items()
            features = {of: looker.features(name, one, one.path.name) for of, one in sets}
            for family in families:
                self._attempt(family, features, extractor.name)

    def _attempt(self, family: str, features: Mapping[str, Features], extractor: str) -> None:
        settings = self.sides, self.protocol, self.drawing
        try:
            self.figures += pictures.from_features(features, extractor, (family,), *settings)
        except InvDiffError as problem:
            self.missing.append(f"Not measured: {family} in {extractor} features ({problem}).")

    def read_prompts(self) -> None:
        """CLIP-T of both sets.

        Raises:
            DataError: prompts that are not known.
        """
        for gallery in (self.galleries["a"], self.galleries["b"]):
            if not all(gallery.prompt):
                raise DataError(
                    f"{gallery.path} tells no prompts, which --clip compares pictures with: give "
                    "captions, or one sub-folder for each prompt"
                )
        model = load_clip(self.asked.clip, self.weights)
        self.hashes[self.asked.clip] = model.image.sha256
        fits = {}
        for of in ("a", "b"):
            gallery = self.galleries[of]
            side = self.asked.side or min(gallery.size)
            seen = each(gallery, lambda part: model.image.features(part), side)
            seen /= np.linalg.norm(seen, axis=1, keepdims=True)
            prompts = sorted(set(gallery.prompt))
            texts = dict(zip(prompts, model.texts(prompts), strict=True))
            asked = np.stack([texts[prompt] for prompt in gallery.prompt])
            fits[of] = 100 * (seen * asked).sum(1).astype(np.float64)
        self.figures += pictures.clip_t(fits, self.asked.clip, self.sides, self.drawing)

    def see_attributes(self) -> None:
        """Shares, Bias and what goes with them, for each attribute and all of them crossed."""
        asked, both = self.asked, self.sides
        words = asked.attribute, asked.classes
        self.attributes = attributes_of(asked.classifier, asked.labels, self.galleries, *words)
        own = [one for one in self.attributes if not one.is_prompt]
        every = [*own, attributes.crossed_attribute(own)] if len(own) > 1 else own
        wanted = set(asked.target)
        known = {frozenset(one.classes) for one in every}
        if wanted and frozenset(wanted) not in known:
            have = "; ".join(", ".join(one.classes) for one in every) or "there is none"
            raise DataError(
                f"--target names {', '.join(sorted(wanted))}, which are not the classes of an "
                f"attribute: {have}"
            )
        for one in every:
            target = None
            if wanted == set(one.classes):
                target = np.array([asked.target[name] for name in one.classes])
            self.figures += attributes.measured(one, both, self.drawing, target)
        for one in self.attributes:
            if one.is_prompt:
                self.figures += attributes.prompt_fidelity(one, both)

    def record(self) -> dict[str, Any]:
        """All of it, as ``metrics.json`` has it."""
        asked, known = self.asked, environment()
        versions = known["versions"] | {"invdiff": version("invdiff")}
        facts = {
            "protocol": self.protocol.name,
            "seed": asked.seed,
            "versions": ", ".join(f"{name} {versions[name]}" for name in NAMED if versions[name]),
        }
        return {
            "kind": "two folders",
            "protocol": self.protocol.record() | {"side": asked.side or None},
            "seed": asked.seed,
            "resamples": asked.resamples,
            "confidence": CONFIDENCE,
            "paired": self.sides.paired,
            "sets": {of: _described(gallery) for of, gallery in self.galleries.items()},
            "extractors": self.looked,
            "clip": {"name": asked.clip, "sha256": self.hashes[asked.clip]} if asked.clip else None,
            "attributes": {one.name: one.claimed() for one in self.attributes},
            "versions": versions,
            "python": known["python"],
            "platform": known["platform"],
            "figures": [figure.record(facts, self.hashes) for figure in self.figures],
            "warnings": list(self._warnings()),
            "not_measured": self.missing + list(self._not_asked()),
        }

    def _warnings(self) -> Iterator[str]:
        yield from caveats.of_sets(self.galleries, self.sides)
        yield from caveats.of_extractors(self.looked, self.galleries, self.protocol)
        yield from caveats.of_attributes(self.attributes)

    def _not_asked(self) -> Iterator[str]:
        if not self.attributes:
            yield (
                "Shares and Bias were not measured: there is no classifier (--classifier) and no "
                "column of labels (--labels)."
            )
        if not self.asked.clip:
            yield "CLIP-T was not measured: no model with two towers was given (--clip)."


def _open(asked: ComparisonRequest) -> dict[str, Gallery]:
    """All sets; DataError if their pictures differ in size, which alone would be a distance."""
    places = {"a": asked.first, "b": asked.second}
    if asked.reference is not None:
        places["reference"] = asked.reference
    found = {
        of: open_gallery(place, asked.side, asked.prompt_column) for of, place in places.items()
    }
    sizes = {gallery.size: gallery.path for gallery in found.values()}
    if len(sizes) > 1 and not asked.side:
        told = " and ".join(f"{path} ({w} x {h})" for (w, h), path in sizes.items())
        raise DataError(
            f"the pictures of {told} differ in size, which is a distance of its own: make them "
            "alike, or give --size to resize"
        )
    return found


def _extractors(
    asked: ComparisonRequest, protocol: ComparisonProtocol
) -> dict[str, tuple[str, ...]]:
    """Extractors with the families of figures that each is for."""
    if asked.extractors:
        return dict.fromkeys(asked.extractors, FAMILIES)
    if protocol.extractors:
        return dict(protocol.extractors)
    return {DEFAULT if lite.installed() else FALLBACK: FAMILIES}


def _described(gallery: Gallery) -> dict[str, Any]:
    counts = Counter(gallery.prompt)
    return {
        "name": gallery.path.name,
        "images": len(gallery),
        "width": gallery.size[0],
        "height": gallery.size[1],
        "prompts_from": gallery.by,
        "prompts": {prompt or attributes.ALL: counts[prompt] for prompt in sorted(counts)},
        "repeated": gallery.repeated,
        "sha256": gallery.sha256,
    }
