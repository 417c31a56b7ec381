"""What even shares alone do to the fidelity, recall and coverage of the embedded base model.

    python tools/rebalanced_base.py --seed 0

Draws pictures of the base at guidance scale 1 until each prompt has as many of every estimated
gender as a balanced sampler would show, and compares two sets of one size: the first pictures as
they came, and the first ones of each gender. A guidance that changed nothing but the shares would
do as well as the second set; the README quotes it. About five minutes a seed on one core.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from invdiff.core import fidelity
from invdiff.engine import config as configuration
from invdiff.engine.evaluate import classifier_path, real_pictures
from invdiff.engine.models import ModelRef, Source
from invdiff.engine.opening import open_data
from invdiff.engine.processes import one_thread
from invdiff.engine.sampler import Sampler, seed_of
from invdiff.model.features import SIZE, AttributeClassifier

IMAGES = 400
BATCH = 50
MOST = 40 * IMAGES


def drawn(
    source: Source, classifier: AttributeClassifier, prompt: str, seed: int, steps: int
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.str_]]]:
    """Features and estimates of base pictures, until half of ``IMAGES`` have each gender."""
    sampler = Sampler(source, None, 0.0, (0.0, 1.0), 1.0, steps)
    features: list[NDArray[np.float32]] = []
    genders: list[str] = []
    with tqdm(desc=prompt, total=IMAGES // 2, unit="picture of the rarer gender") as bar:
        for start in range(0, MOST, BATCH):
            seeds = [seed_of(seed, prompt, k) for k in range(start, start + BATCH)]
            features.append(classifier.features(sampler.pictures([prompt] * BATCH, seeds)))
            genders += classifier.estimate(features[-1])["gender"].tolist()
            rarest = min(genders.count(name) for name in ("female", "male"))
            bar.update(min(rarest, IMAGES // 2) - bar.n)
            if rarest >= IMAGES // 2:
                break
    together = np.concatenate(features)
    return together, classifier.estimate(together)


def even(gender: NDArray[np.str_]) -> NDArray[np.int64]:
    """Rows of the first pictures of each gender, as many of one as of the other."""
    half = [np.flatnonzero(gender == name)[: IMAGES // 2] for name in ("female", "male")]
    return np.concatenate(half)


def report(name: str, sets: dict[str, tuple[NDArray[np.float32], float]], real: NDArray) -> str:
    """One line of the table: ``sets`` has features and fidelity for each prompt."""
    features = np.concatenate([part for part, _ in sets.values()])
    found = fidelity.manifolds(features, real)
    distance = fidelity.frechet(features, real).value
    kept = np.mean([share for _, share in sets.values()])
    return (
        f"| {name} | {len(features)} | {kept:.4f} | {distance:.2f} | {found.precision:.3f} "
        f"| {found.recall:.3f} | {found.coverage:.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    one_thread()
    config = configuration.preset("faces", [f"seed={seed}"])
    path = classifier_path(config)
    assert isinstance(path, Path), "the embedded set has a classifier"
    classifier, data = AttributeClassifier.load(path), open_data(config.data, SIZE)
    real = real_pictures(data, classifier, seed)["balanced"]
    base = ModelRef(config.model.path, "cpu", "float32")
    sets: dict[str, dict[str, tuple[NDArray[np.float32], float]]] = {"as drawn": {}, "even": {}}
    for prompt in data.prompts():
        features, seen = drawn(base, classifier, prompt, seed, config.sample.steps)
        chosen = {"as drawn": np.arange(IMAGES), "even": even(seen["gender"])}
        for name, rows in chosen.items():
            share = float((seen["prompt"][rows] == prompt).mean())
            sets[name][prompt] = (features[rows], share)
    print("| base pictures | images | prompt fidelity | Fréchet | precision | recall | coverage |")
    print("|---|---|---|---|---|---|---|")
    for name, parts in sets.items():
        print(report(name, parts, real))


if __name__ == "__main__":
    main()
