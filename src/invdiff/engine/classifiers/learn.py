"""`invdiff data classifier`: a classifier of one attribute from a folder of labelled pictures.

Three fifths of the pictures are trained on, one fifth chooses the checkpoint, and the last one is
looked at once, for the confusion matrix in the file's header. Each fifth has the labels in equal
proportions.
"""

import copy
import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import Tensor

from invdiff.data.gallery import Labelled, open_labelled
from invdiff.engine.classifiers.error_table import at_every_threshold
from invdiff.engine.distributed import randomness
from invdiff.engine.fitting import small_classifier
from invdiff.engine.fitting.simple_loop import Recipe
from invdiff.engine.storage.files import write_with
from invdiff.engine.storage.hashed_tensors import short_name
from invdiff.errors import DataError
from invdiff.model.vision.attribute_classifier import SIZE, AttributeClassifier, to_input
from invdiff.model.vision.classifiers import BackboneClassifier
from invdiff.model.vision.transformers_models import VisionModel

FEWEST = 10
CHECK_EVERY = 50
# Inverse strengths of the logistic head's regularisation, of which validation chooses one.
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)

Rows = NDArray[np.int64]
Split = tuple[Rows, Rows, Rows]


def learn(
    source: str | Path, column: str, out: Path, backbone: str = "", steps: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Train on the pictures of ``source``, write the file ``out`` and return its facts.

    Without ``backbone`` a small network that sees 32 x 32 pixels is trained for ``steps``; with
    it, a linear layer on the features of that vision model. The same call goes on where an
    interrupted one stopped.

    Raises:
        DataError: no such data or column, or fewer than 10 pictures with a label.
        ModelError: the backbone cannot be loaded.
    """
    vision = VisionModel(backbone, "AutoModel") if backbone else None
    data = open_labelled(source, column, vision.side if vision else SIZE)
    rows = split_by_label(data.labels, seed, column)
    model, how = (
        _on_backbone(vision, backbone, data, rows, column)
        if vision
        else _network(data, rows, column, out, steps, seed)
    )
    held_out = rows[2]
    found = model.classify(model.features(data.pictures[held_out]))[column]
    labels = [data.labels[row] for row in held_out]
    facts = how | {
        "attribute": column,
        "trained_on": len(rows[0]),
        "validated_on": len(rows[1]),
        "split_seed": seed,
        "labels": dict(sorted(Counter(data.labels).items())),
        "left_out": data.left_out,
        "any_size": True,
        "attributes": {column: at_every_threshold(labels, found, model.classes[column])},
    }
    write_with(out, lambda beside: model.save(beside, facts))
    return facts


def split_by_label(labels: Sequence[str], seed: int, column: str) -> Split:
    """Rows to train on, to choose with and to hold out; DataError when a label has too few."""
    rare = min(Counter(labels).items(), key=lambda pair: (pair[1], pair[0]))
    if rare[1] < FEWEST:
        raise DataError(
            f"only {rare[1]} pictures are {rare[0]!r} in column {column!r}, at least {FEWEST} are "
            "needed of each label: add some, or clear the label of these"
        )
    pieces = []
    for label in sorted(set(labels)):
        known = np.flatnonzero(np.asarray(labels) == label)
        mixed = known[randomness.epoch_order(len(known), seed, "labelled split", label).numpy()]
        fifth = len(known) // 5
        pieces.append(np.split(mixed, [len(known) - 2 * fifth, len(known) - fifth]))
    first, second, third = (np.sort(np.concatenate(part)) for part in zip(*pieces, strict=True))
    return first, second, third


class _Best:
    """The weights with the highest validation F1 so far, checked every ``CHECK_EVERY`` steps."""

    def __init__(self, model: AttributeClassifier, pictures: Tensor, targets: Tensor) -> None:
        self.model, self.pictures, self.targets = model, pictures, targets
        self.kept = copy.deepcopy(model)

    def check(self, step: int) -> None:
        if step % CHECK_EVERY == 0 and self.f1(self.model) >= self.f1(self.kept):
            self.kept.load_state_dict(self.model.state_dict())

    @torch.no_grad()
    def f1(self, model: AttributeClassifier) -> float:
        (logits,) = model(self.pictures).values()
        return float(f1_score(self.targets, logits.argmax(1), average="macro"))


def _network(
    data: Labelled, rows: Split, column: str, out: Path, steps: int, seed: int
) -> tuple[AttributeClassifier, dict[str, Any]]:
    """Every label weighs the same in the loss, however many pictures have it."""
    classes = tuple(sorted(set(data.labels)))
    targets = torch.tensor([classes.index(label) for label in data.labels])
    images = to_input(data.pictures)
    known, chosen, _ = map(torch.from_numpy, rows)
    weight = len(known) / (len(classes) * targets[known].bincount(minlength=len(classes)))
    recipe = Recipe(seed=seed, classifier_steps=steps, save_every=4 * CHECK_EVERY)
    model = small_classifier.build(recipe, {column: classes})
    best = _Best(model, images[chosen], targets[chosen])

    seen = hashlib.sha256(data.pictures.tobytes()).hexdigest()
    depends_on = {"pictures": seen, "labels": data.labels, "steps": steps, "seed": seed}
    folder = out.with_name(f".{out.stem}-{short_name(depends_on)}")
    small_classifier.fit_classifier(
        model,
        small_classifier.Pictures(images, {column: targets}, known),
        recipe,
        folder,
        "labelled classifier",
        title=f"classifier of {column}",
        weight=weight,
        after_step=best.check,
        best=best.kept,
    )
    shutil.rmtree(folder)
    kept = best.kept.half().float().requires_grad_(False).eval()
    count = sum(value.numel() for value in kept.parameters())
    return kept, {"steps": steps, "parameters": count, "validation_f1": best.f1(kept)}


def _on_backbone(
    vision: VisionModel, name: str, data: Labelled, rows: Split, column: str
) -> tuple[BackboneClassifier, dict[str, Any]]:
    """Logistic regression on standardised features, which its weights take back in."""
    classes, (known, chosen, _) = tuple(sorted(set(data.labels))), rows
    labels = np.array([classes.index(label) for label in data.labels])
    found = vision.features(data.pictures).astype(np.float64)
    mean, scale = found[known].mean(0), found[known].std(0) + 1e-6
    standard = (found - mean) / scale
    heads, scores = [], []
    for strength in STRENGTHS:
        head = LogisticRegression(C=strength, class_weight="balanced", max_iter=5000)
        heads.append(head.fit(standard[known], labels[known]))
        scores.append(f1_score(labels[chosen], head.predict(standard[chosen]), average="macro"))
    best = int(np.argmax(scores))
    weight = heads[best].coef_ / scale
    bias = heads[best].intercept_ - heads[best].coef_ @ (mean / scale)
    if len(classes) == 2:  # one row, for the second class: the first one's logit is 0
        weight, bias = np.vstack([0 * weight, weight]), np.concatenate([0 * bias, bias])
    tensors = {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
    facts = {
        "backbone": name,
        "backbone_sha256": vision.sha256,
        "regularisation": STRENGTHS[best],
        "validation_f1": float(scores[best]),
    }
    return BackboneClassifier(vision, column, classes, tensors), facts
