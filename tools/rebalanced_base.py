"""What even shares alone do to the fidelity, recall and coverage of a base model.

    python tools/rebalanced_base.py --seed 0
    python tools/rebalanced_base.py --set scenes --seed 0

Draws pictures of the base of a built-in set of two groups at guidance scale 1 until each prompt has
as many of either estimated group as a balanced sampler would show, and compares two sets of one
size: the first pictures as they came, and the first ones of each group. A guidance that changed
nothing but the shares would do as well as the second set; the README quotes it. About five minutes
a seed on one core.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from invdiff.core.measurement import fidelity
from invdiff.data.sets import builtin
from invdiff.engine.base_model.loading import ModelRef, Source
from invdiff.engine.classifiers.choose import choose
from invdiff.engine.distributed.pool import one_thread
from invdiff.engine.encoding.session import open_data
from invdiff.engine.evaluation.evaluate import real_pictures
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.settings import config as configuration
from invdiff.model.vision.attribute_classifier import SIZE
from invdiff.model.vision.classifiers import Classifier

IMAGES = 400
BATCH = 50
MOST = 40 * IMAGES


def drawn(
    source: Source,
    classifier: Classifier,
    attribute: str,
    prompt: str,
    seed: int,
    steps: int,
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.str_]]]:
    """Features and estimates of base pictures, until half of ``IMAGES`` are in each group."""
    sampler = Sampler(source, None, 0.0, (0.0, 1.0), 1.0, steps)
    features: list[NDArray[np.float32]] = []
    groups: list[str] = []
    with tqdm(desc=prompt, total=IMAGES // 2, unit="picture of the rarer group") as bar:
        for start in range(0, MOST, BATCH):
            seeds = [seed_of(seed, prompt, k) for k in range(start, start + BATCH)]
            features.append(classifier.features(sampler.pictures([prompt] * BATCH, seeds)))
            groups += estimated(classifier, features[-1])[attribute].tolist()
            rarest = min(groups.count(name) for name in classifier.classes[attribute])
            bar.update(min(rarest, IMAGES // 2) - bar.n)
            if rarest >= IMAGES // 2:
                break
    together = np.concatenate(features)
    return together, estimated(classifier, together)


def estimated(classifier: Classifier, features: NDArray[np.float32]) -> dict[str, NDArray[np.str_]]:
    """The likeliest class of each picture, of every attribute."""
    found = classifier.classify(features)
    return {
        name: np.asarray(classifier.classes[name])[chances.argmax(1)]
        for name, chances in found.items()
    }


def even(group: NDArray[np.str_]) -> NDArray[np.int64]:
    """Rows of the first pictures of each group, as many of one as of the other."""
    half = [np.flatnonzero(group == name)[: IMAGES // 2] for name in np.unique(group)]
    return np.concatenate(half)


def report(name: str, sets: dict[str, tuple[NDArray[np.float32], float]], real: NDArray) -> str:
    """One line of the table: ``sets`` has features and fidelity for each prompt."""
    features = np.concatenate([part for part, _ in sets.values()])
    found = fidelity.manifolds(features, real)
    distance = fidelity.frechet(features, real).value
    kept = np.mean([share for _, share in sets.values()])
    return (
        f"| {name} | {len(features)} | {kept:.4f} | {distance:.2f} | {found.precision.mean():.3f} "
        f"| {found.recall.mean():.3f} | {found.coverage.mean():.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", default="faces", help="faces, or a built set of two groups")
    asked = parser.parse_args()
    name, seed = asked.set, asked.seed
    one_thread()
    config = configuration.preset(name, [f"seed={seed}"])
    attribute = builtin.SETS[name].attribute
    chosen = choose(config)
    assert chosen, "a built-in set has a classifier"
    classifier, data = chosen.classifier, open_data(config.data, SIZE)
    real = real_pictures(config, data, classifier)["balanced"]
    base = ModelRef(config.model.path, "cpu", "float32")
    sets: dict[str, dict[str, tuple[NDArray[np.float32], float]]] = {"as drawn": {}, "even": {}}
    for prompt in data.prompts():
        features, seen = drawn(base, classifier, attribute, prompt, seed, config.sample.steps)
        rows_of = {"as drawn": np.arange(IMAGES), "even": even(seen[attribute])}
        for kind, rows in rows_of.items():
            share = float((seen["prompt"][rows] == prompt).mean())
            sets[kind][prompt] = (features[rows], share)
    print("| base pictures | images | prompt fidelity | Fréchet | precision | recall | coverage |")
    print("|---|---|---|---|---|---|---|")
    for kind, parts in sets.items():
        print(report(kind, parts, real))


if __name__ == "__main__":
    main()
