"""Stage 4: what the pictures show, before and after, with its uncertainty: ``metrics.json``.

Everything that needs an attribute is estimated by a classifier, whose errors stand beside it. What
cannot be measured is left out and said in ``not_measured``. Labels of the data, if it has any, are
opened last and change nothing.
"""

import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from invdiff.data.samples import Pictures, Samples
from invdiff.data.sets import faces
from invdiff.engine import figures, order
from invdiff.engine.against_labels import groups_against_labels, has_labels
from invdiff.engine.config import Config
from invdiff.engine.environment import environment
from invdiff.engine.figures import Protocol, Seen
from invdiff.engine.files import read_parquet, write_json
from invdiff.engine.opening import open_data
from invdiff.engine.pretrain.classifiers import halves
from invdiff.engine.run import RunFolder
from invdiff.engine.sections import EMBEDDED_SETS
from invdiff.errors import RunError
from invdiff.model.features import FEATURES, SIZE, AttributeClassifier

Columns = dict[str, NDArray[Any]]
BATCH = 256
REFERENCE = 2000
NO_CLASSIFIER = (
    "Shares, Bias, fidelity, Frechet distance, precision and recall were not measured: no "
    "attribute classifier was used."
)


def evaluate(run: RunFolder) -> None:
    """Measure the samples of the run; nothing happens if that is done.

    Raises:
        RunError: pictures of the sample stage are missing or damaged.
        ModelError: the classifier does not read pictures of this size.
    """
    if run.done("evaluate"):
        return
    with run.stage("evaluate"):
        columns = read_parquet(run.path / "samples.parquet")
        samples = {name: np.asarray(values) for name, values in columns.items()}
        path = classifier_path(run.config)
        data = open_data(run.config.data, SIZE) if path or has_labels(run.config) else None
        if path and data:
            measured = with_classifier(run, samples, data, path)
        else:
            measured = without_classifier(run, samples)
        agreement = groups_against_labels(run, data) if data and has_labels(run.config) else None
        write_json(run.path / "metrics.json", measured | {"groups_vs_labels": agreement})


def classifier_path(config: Config) -> Path | None:
    """The file of the classifier to use; None for none."""
    name: str = config.evaluate.classifier
    if name == "auto":
        name = config.data.path if config.data.path in EMBEDDED_SETS else "none"
    if name == "none":
        return None
    return Path(str(files("invdiff"))) / "assets" / name / "classifier.safetensors"


def without_classifier(run: RunFolder, samples: Columns) -> dict[str, Any]:
    """How many pictures there are at which strength, and that nothing else was measured."""
    arms: dict[str, dict[str, Any]] = {}
    for arm, scale, rows in arms_of(samples):
        strength = float(samples["strength"][rows][0])
        arms.setdefault(arm, {})[str(scale)] = {"images": len(rows), "strength": strength}
    return {
        "protocol": common_facts(run, samples),
        "classifier": None,
        "arms": arms,
        "paired": {},
        "not_measured": [NO_CLASSIFIER],
    }


def with_classifier(run: RunFolder, samples: Columns, data: Samples, path: Path) -> dict[str, Any]:
    """Every arm at every scale, and the pairs of arms that share their seeds."""
    classifier = AttributeClassifier.load(path)
    seen = {
        (arm, scale): look(run.path, samples, rows, classifier)
        for arm, scale, rows in arms_of(samples)
    }
    protocol, notes = protocol_of(run.config, samples, data, classifier)
    arms: dict[str, dict[str, Any]] = {}
    paired: dict[str, Any] = {}
    for (arm, scale), pictures in seen.items():
        arms.setdefault(arm, {})[str(scale)], missing = figures.measure(pictures, protocol)
        notes += [note for note in missing if note not in notes]
        if arm == "guided" and ("base", scale) in seen:
            change = figures.bias_reduction(seen["base", scale], pictures, protocol)
            paired[str(scale)] = {"bias_reduction": change}
    facts = classifier.facts
    names = (protocol.attribute, "prompt")
    return {
        "protocol": common_facts(run, samples)
        | {
            "name": path.parent.name,
            "attribute": protocol.attribute,
            "extractor": f"{FEATURES} features of the {path.parent.name} attribute classifier",
            "extractor_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "references": {name: len(rows) for name, rows in protocol.references.items()},
        },
        "classifier": {
            "name": path.parent.name,
            "trained_on": facts["trained_on"],
            "attributes": {name: facts["attributes"][name] for name in names},
        },
        "arms": arms,
        "paired": paired,
        "not_measured": notes,
    }


def common_facts(run: RunFolder, samples: Columns) -> dict[str, Any]:
    """What every figure of the run depends on."""
    return {
        "name": "no classifier",
        "resamples": run.config.evaluate.resamples,
        "confidence": figures.CONFIDENCE,
        "versions": environment()["versions"],
        "seed": run.config.seed,
        "images_per_prompt": int(samples["index"].max()) + 1,
    }


def protocol_of(
    config: Config, samples: Columns, data: Samples, classifier: AttributeClassifier
) -> tuple[Protocol, list[str]]:
    """What is measured against what, and a sentence on each prompt that has no part in it."""
    prompts = data.prompts()
    sampled = sorted(set(samples["prompt"].tolist()))
    known = tuple(prompt for prompt in sampled if prompt in prompts)
    others = [prompt for prompt in sampled if prompt not in prompts]
    notes = [f"Bias leaves out prompts that are not in the data: {', '.join(others)}."]
    protocol = Protocol(
        attribute=classifier.facts["attribute"],
        prompts=known or tuple(sampled),
        claims=classifier.facts["attributes"],
        references=real_pictures(data, classifier, config.seed),
        resamples=config.evaluate.resamples,
        neighbours=config.evaluate.neighbours,
        seed=order.derive(config.seed, "evaluate"),
    )
    return protocol, notes if known and others else []


def real_pictures(
    data: Samples, classifier: AttributeClassifier, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Features of the real pictures to compare with.

    ``balanced`` is the half of the balanced set that the classifier was not trained on,
    ``training`` a random part of the data of the same size, since figures with references of
    different sizes don't compare.
    """
    pictures = faces.pictures("balanced")
    unseen = halves(len(pictures), classifier.facts["split_seed"])[1][:REFERENCE]
    some = order.epoch_order(len(data), seed, "evaluate reference")[:REFERENCE].tolist()
    sources: dict[str, Callable[[slice], Pictures]] = {
        "balanced": lambda part: pictures[unseen[part]],
        "training": lambda part: data.pictures(some[part]),
    }
    counts = {"balanced": len(unseen), "training": len(some)}
    return {
        name: features_of(classifier, take, counts[name], f"real pictures, {name}")
        for name, take in sources.items()
    }


def arms_of(samples: Columns) -> list[tuple[str, float, NDArray[np.int64]]]:
    """Arm, guidance scale and rows of each set of pictures, in the order of the table."""
    pairs = dict.fromkeys(zip(samples["arm"].tolist(), samples["scale"].tolist(), strict=True))
    return [
        (arm, scale, np.flatnonzero((samples["arm"] == arm) & (samples["scale"] == scale)))
        for arm, scale in pairs
    ]


def look(
    folder: Path, samples: Columns, rows: NDArray[np.int64], classifier: AttributeClassifier
) -> Seen:
    """Let the classifier see the pictures in ``rows`` of samples.parquet."""
    paths = [folder / path for path in samples["path"][rows]]
    title = f"{samples['arm'][rows[0]]}, scale {samples['scale'][rows[0]]:g}"

    def take(part: slice) -> Pictures:
        return np.stack([read_picture(path) for path in paths[part]])

    features = features_of(classifier, take, len(rows), title)
    strength = float(samples["strength"][rows][0])
    estimated = classifier.estimate(features)
    return Seen(samples["prompt"][rows], samples["seed"][rows], strength, features, estimated)


def features_of(
    classifier: AttributeClassifier, take: Callable[[slice], Pictures], count: int, title: str
) -> NDArray[np.float32]:
    """Features of ``count`` pictures, taken in batches under a progress bar."""
    starts = tqdm(range(0, count, BATCH), desc=f"looking at {title}", unit="batch")
    return np.concatenate([classifier.features(take(slice(at, at + BATCH))) for at in starts])


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
