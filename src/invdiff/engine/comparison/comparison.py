"""Measure two folders of pictures and write ``metrics.json``."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.data.gallery import Gallery, open_gallery
from invdiff.engine.comparison import caveats, pictures
from invdiff.engine.comparison.attributes import (
    ALL,
    AttributeFigures,
    crossed_attribute,
    prompt_fidelity,
)
from invdiff.engine.comparison.features import Look, each, extractor_of, features_of_all, side_of
from invdiff.engine.comparison.figures import CONFIDENCE, Drawing, Figure, Sides, sides
from invdiff.engine.comparison.known_weights import folder as weights_folder
from invdiff.engine.comparison.labels import Attribute, attributes_of
from invdiff.engine.comparison.request import ComparisonProtocol, ComparisonRequest
from invdiff.engine.run.environment import environment
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.storage.files import write_json
from invdiff.errors import DataError, InvDiffError, RunError
from invdiff.model.vision.extractors.towers import load_clip

NO_ATTRIBUTE = (
    "Shares and Bias were not measured: there is no classifier (--classifier) and no column of "
    "labels (--labels)."
)
NO_CLIP = "CLIP-T was not measured: no model with two towers was given (--clip)."
NAMED = ("invdiff", "torch", "transformers", "numpy", "scipy")


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
    work = _Work(
        asked, asked.chosen, galleries := _open(asked), sides(galleries["a"], galleries["b"])
    )
    work.look(out / "cache")
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
    protocol: ComparisonProtocol
    galleries: Mapping[str, Gallery]
    sides: Sides
    figures: list[Figure] = field(default_factory=list)
    clip: dict[str, str] | None = None
    looked: dict[str, Any] = field(default_factory=dict)
    attributes: list[Attribute] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.drawing = Drawing(self.asked.resamples, self.asked.seed)
        self.weights = weights_folder()

    def look(self, cache: Path) -> None:
        """Distances, manifolds and diversity in the features of each extractor."""
        asked, protocol = self.asked, self.protocol
        for name, families in asked.looking.items():
            look = Look(name, self.weights, protocol.preparation)
            extractor = extractor_of(name, self.weights)
            self.looked[extractor.name] = {
                "sha256": extractor.sha256,
                "features": extractor.dims,
                "input_side": extractor.side or None,
                "for": list(families),
                "limits": extractor.limits,
            }
            how = asked.side, cache, asked.processes
            features = {of: features_of_all(look, one, *how) for of, one in self.galleries.items()}
            for family in families:
                try:
                    self.figures += pictures.from_features(
                        features, extractor.name, family, self.sides, protocol, self.drawing
                    )
                except InvDiffError as problem:
                    what = f"{family} in {extractor.name} features"
                    self.missing.append(f"Not measured: {what} ({problem}).")

    def read_prompts(self) -> None:
        """CLIP-T of both sets.

        Raises:
            DataError: prompts that are not known.
        """
        both = {of: self.galleries[of] for of in self.sides.prompts}
        for gallery in both.values():
            if not all(gallery.prompt):
                raise DataError(
                    f"{gallery.path} tells no prompts, which --clip compares pictures with: give "
                    "captions, or one sub-folder for each prompt"
                )
        model = load_clip(self.asked.clip, self.weights)
        self.clip = {"name": self.asked.clip, "sha256": model.image.sha256}
        fits = {}
        for of, gallery in both.items():
            seen = each(gallery, model.image.features, side_of(gallery, self.asked.side))
            seen /= np.linalg.norm(seen, axis=1, keepdims=True)
            prompts, rows = np.unique(gallery.prompt, return_inverse=True)
            asked = model.texts(prompts.tolist())[rows]
            fits[of] = 100 * (seen * asked).sum(1).astype(np.float64)
        self.figures += pictures.clip_t(fits, self.asked.clip, self.sides, self.drawing)

    def see_attributes(self) -> None:
        """Shares, Bias and what goes with them, for each attribute and all of them crossed."""
        asked, words = self.asked, (self.asked.attribute, self.asked.classes)
        self.attributes = attributes_of(asked.classifier, asked.labels, self.galleries, *words)
        own = [one for one in self.attributes if not one.is_prompt]
        every = [*own, crossed_attribute(own)] if len(own) > 1 else own
        mix = asked.target or {}
        if mix and all(set(one.classes) != set(mix) for one in every):
            have = "; ".join(", ".join(one.classes) for one in every) or "there is none"
            raise DataError(
                f"--target names {', '.join(sorted(mix))}, which are not the classes of an "
                f"attribute: {have}"
            )
        for one in every:
            own_mix = set(mix) == set(one.classes)
            target = np.array([mix[name] for name in one.classes]) if own_mix else None
            self.figures += AttributeFigures(one, self.sides, self.drawing, target).every()
        for one in self.attributes:
            if one.is_prompt:
                self.figures += prompt_fidelity(one, self.sides)

    def record(self) -> dict[str, Any]:
        """All of it, as ``metrics.json`` has it."""
        asked, known = self.asked, environment()
        versions = known["versions"] | {"invdiff": version("invdiff")}
        facts = {
            "protocol": self.protocol.name,
            "seed": asked.seed,
            "versions": ", ".join(f"{name} {versions[name]}" for name in NAMED if versions[name]),
        }
        hashes = {name: one["sha256"] for name, one in self.looked.items()}
        hashes |= {self.clip["name"]: self.clip["sha256"]} if self.clip else {}
        return {
            "kind": "two folders",
            "protocol": self.protocol.record() | {"side": asked.side or None},
            "seed": asked.seed,
            "resamples": asked.resamples,
            "confidence": CONFIDENCE,
            "paired": self.sides.paired,
            "sets": {of: _described(gallery) for of, gallery in self.galleries.items()},
            "extractors": self.looked,
            "clip": self.clip,
            "attributes": {one.name: one.claimed() for one in self.attributes},
            "versions": versions,
            "python": known["python"],
            "platform": known["platform"],
            "figures": [figure.record(facts, hashes) for figure in self.figures],
            "warnings": [
                *caveats.of_sets(self.galleries, self.sides),
                *caveats.differing_files(self.galleries, asked.side),
                *caveats.of_extractors(self.looked, self.galleries, self.protocol),
                *caveats.of_attributes(self.attributes),
            ],
            "not_measured": [
                *self.missing,
                *([] if self.attributes else [NO_ATTRIBUTE]),
                *([] if asked.clip else [NO_CLIP]),
            ],
        }


def _open(asked: ComparisonRequest) -> dict[str, Gallery]:
    """All sets; DataError if their pictures differ in size, which alone would be a distance."""
    places = {"a": asked.first, "b": asked.second}
    if asked.reference is not None:
        places["reference"] = asked.reference
    how = asked.side, asked.prompt_column, asked.quarantine, asked.max_bad_share
    found = {of: open_gallery(place, *how) for of, place in places.items()}
    sizes = {gallery.size: gallery.path for gallery in found.values()}
    if len(sizes) > 1 and not asked.side:
        told = " and ".join(f"{path} ({w} x {h})" for (w, h), path in sizes.items())
        raise DataError(
            f"the pictures of {told} differ in size, which is a distance of its own: make them "
            "alike, or give --size to resize"
        )
    return found


def _described(gallery: Gallery) -> dict[str, Any]:
    counts = Counter(gallery.prompt)
    return {
        "name": gallery.path.name,
        "images": len(gallery),
        "width": gallery.size[0],
        "height": gallery.size[1],
        "prompts_from": gallery.by,
        "prompts": {prompt or ALL: counts[prompt] for prompt in sorted(counts)},
        "repeated": gallery.repeated,
        "one_colour": list(gallery.one_colour),
        "left_out": [list(one) for one in gallery.left_out],
        "sha256": gallery.sha256,
    }
