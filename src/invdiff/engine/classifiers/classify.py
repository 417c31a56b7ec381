"""What a classifier, or a person who wrote labels down, sees in the pictures of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from invdiff.data.pictures import fit_array
from invdiff.data.samples import Pictures
from invdiff.data.sources import open_listing
from invdiff.engine.classifiers.error_table import ABSTAINED, decide
from invdiff.errors import DataError, RunError
from invdiff.model.vision.classifiers import Classifier
from invdiff.terminal import Bar

Columns = Mapping[str, NDArray[Any]]
BATCH = 256


@dataclass(frozen=True)
class ClassifiedPictures:
    """What the classifier made of the pictures of one arm: one entry of each array a picture.

    ``features`` is None where labels are all there is.
    """

    prompt: NDArray[np.str_]
    seed: NDArray[np.int64]
    strength: float
    features: NDArray[np.floating[Any]] | None
    estimated: Mapping[str, NDArray[np.str_]]


def classify_pictures(
    folder: Path,
    samples: Columns,
    rows: NDArray[np.int64],
    classifier: Classifier,
    abstain_below: float = 0.0,
) -> ClassifiedPictures:
    """Let the classifier see the pictures in ``rows`` of samples.parquet."""
    paths = [folder / path for path in samples["path"][rows]]
    title = f"{samples['arm'][rows[0]]}, scale {samples['scale'][rows[0]]:g}"

    def take(part: slice) -> Pictures:
        return np.stack([read_picture(path) for path in paths[part]])

    features = features_of(classifier, take, len(rows), title)
    estimated = {
        name: decide(values, classifier.classes[name], abstain_below)
        for name, values in classifier.classify(features).items()
    }
    return classified_rows(samples, rows, features, estimated)


def classified_rows(
    samples: Columns,
    rows: NDArray[np.int64],
    features: NDArray[np.floating[Any]] | None,
    estimated: Mapping[str, NDArray[np.str_]],
) -> ClassifiedPictures:
    """What was seen in ``rows`` of samples.parquet, with what is known of them."""
    strength = float(samples["strength"][rows][0])
    return ClassifiedPictures(
        samples["prompt"][rows], samples["seed"][rows], strength, features, estimated
    )


def features_of(
    classifier: Classifier, take: Callable[[slice], Pictures], count: int, title: str
) -> NDArray[np.float32]:
    """Features of ``count`` pictures, taken in batches under a progress bar."""
    starts = Bar(range(0, count, BATCH), desc=f"looking at {title}", unit="batch")
    parts = [take(slice(at, at + BATCH)) for at in starts]
    return np.concatenate([classifier.features(resized_for(part, classifier)) for part in parts])


def resized_for(pictures: Pictures, classifier: Classifier) -> Pictures:
    """Pictures as the classifier reads them: one that was trained on fitted ones gets such."""
    if not classifier.facts.get("any_size"):
        return pictures
    return np.stack([fit_array(one, classifier.side) for one in pictures])


def written_labels(folder: Path, samples: Columns, column: str) -> NDArray[np.str_]:
    """The column of samples/metadata.csv (or .jsonl, .parquet) for each row of samples.parquet.

    A picture without a label is counted as unclear.

    Raises:
        DataError: no such file or column, or fewer than two labels.
    """
    listing = open_listing(folder / "samples")
    values = listing.table.labels(column)
    label_of = dict(zip((f"samples/{name}" for name in listing.names), values, strict=True))
    labels = [label_of.get(path) or ABSTAINED for path in samples["path"].tolist()]
    if len(set(labels) - {ABSTAINED}) < 2:
        raise DataError(
            f"column {column!r} of {folder / 'samples'} has fewer than two labels for the pictures "
            "of this run: fill it in, with file_name relative to that folder"
        )
    return np.asarray(labels)


def read_picture(path: Path) -> Pictures:
    """One generated picture as RGB; RunError if it is missing or damaged."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as problem:
        raise RunError(
            f"{path} cannot be read ({problem}): make the pictures again with `invdiff sample "
            "--redo`"
        ) from problem
