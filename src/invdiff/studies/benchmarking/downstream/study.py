"""Does the evened-out set help who trains on it? A small classifier of the prompt, three times.

It is trained on the biased pictures of a built-in set; on these and the pictures that
:func:`~augment.augment` adds; and, to tell even groups from mere numbers, on
these and as many pictures of the base model. All three take the same steps and are tested on the
balanced split, which none has seen: the accuracy that counts is that of the worst group of prompt
and attribute. Labels are read for this test alone.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from invdiff.core.uncertainty.intervals import wilson
from invdiff.data.sets import builtin
from invdiff.data.sets.stored import open_set
from invdiff.engine.augmentation.augment import AugmentRequest, artist_of, augment, identity
from invdiff.engine.augmentation.drawing import (
    Quota,
    draw_all,
    kept_pictures,
    read_ratios,
    top_up,
)
from invdiff.engine.encoding.session import Session
from invdiff.engine.fitting import small_classifier
from invdiff.engine.fitting.simple_loop import Recipe
from invdiff.engine.storage.files import read_json, write_json
from invdiff.engine.workflow import do_stage, session_of
from invdiff.model.vision.attribute_classifier import to_input
from invdiff.studies.benchmarking.downstream.results import write_accuracies
from invdiff.studies.benchmarking.jobs import Job, beside_each_other, require_benchmark, row_slug
from invdiff.studies.benchmarking.suites import OURS

BIASED, GUIDED, BASE = "biased", "biased and guided", "biased and base"
ARMS = (BIASED, GUIDED, BASE)


class ClassifierTraining(NamedTuple):
    """One classifier: root folder, name of the set, arm and seed."""

    root: str
    name: str
    arm: str
    seed: int

    @property
    def result(self) -> Path:
        """Where its figures are."""
        place = Path(self.root) / f"seed-{self.seed}" / "classifiers"
        return place / row_slug(self.arm) / "result.json"


def benchmark_downstream(name: str, seeds: int, out: Path) -> Path:
    """Train and test what is missing for seeds 0..seeds-1; returns ``out/augment/table.md``.

    The runs are those of the row of the method in ``out``; where they are not there they are made
    up to their training.

    Raises:
        ConfigError: there is no such set, or fewer than one seed.
        RunError: the method found nothing to even out.
    """
    require_benchmark(name, seeds)
    known = [ClassifierTraining(str(out), name, arm, seed) for seed in range(seeds) for arm in ARMS]
    left = [one for one in known if not one.result.is_file()]
    for seed in sorted({one.seed for one in left}):
        draw_added(name, seed, out)
    done = len(known) - len(left)
    beside_each_other(train_and_test, left, done, lambda: None, "classifiers", "one")
    return write_accuracies(out / "augment", name, [read_json(one.result) for one in known])


def draw_added(name: str, seed: int, out: Path) -> None:
    """Make the lists of what the arms add: what evens the data out, and as many of the base."""
    run = Job(str(out), name, OURS, seed).open(processes=0)
    for stage in ("discover", "train"):
        do_stage(run, stage)
    session = session_of(run)
    evened = out / f"seed-{seed}" / "augmented"
    augment(session, evened)
    with (evened / "metadata.csv").open(newline="", encoding="utf-8") as handle:
        added = [row for row in csv.DictReader(handle) if row["synthetic"] == "true"]
    guided = [[str(evened / row["file_name"]), row["prompt"]] for row in added]
    lists = {GUIDED: guided, BASE: base_pictures(session, out / f"seed-{seed}" / "base-pictures")}
    write_json(list_path(out, seed), lists)


def list_path(out: Path, seed: int) -> Path:
    """The paths and prompts of what each arm adds."""
    return out / f"seed-{seed}" / "classifiers" / "added.json"


def base_pictures(session: Session, folder: Path) -> list[list[str]]:
    """Paths and prompts of as many pictures of the base model, drawn where they are missing."""
    config = session.config
    request = AugmentRequest(
        None, config.calibrate.guidance_scale, 0.0, identity(session), config.seed
    )
    artist = artist_of(session, folder, request)
    quotas = [
        Quota(quota.prompt, quota.captions, (sum(quota.counts),)) for quota in top_up(session)
    ]
    ratios = draw_all(artist, quotas, config.sample.batch_size, session.processes)
    return [
        [str(artist.path(quota, k)), quota.prompt]
        for quota in quotas
        for k in kept_pictures(quota, ratios[quota.prompt])
    ]


def train_and_test(one: ClassifierTraining) -> dict[str, Any]:
    """Train and test the classifier of one arm and seed; its figures, which it also writes."""
    root, name, arm, seed = one
    known = open_set(name)
    pictures, prompts = known.pictures("train"), list(known.prompts("train"))
    added = read_json(list_path(Path(root), seed)).get(arm, [])
    if added:
        pictures = np.concatenate(
            [pictures, np.stack([read_ratios(Path(path)) for path, _ in added])]
        )
        prompts += [prompt for _, prompt in added]
    classes = sorted(set(prompts))
    work = one.result.parent / "work"
    model = fit_prompts(to_input(pictures), prompts, classes, seed, work)
    attribute = builtin.SETS[name].attribute
    groups = known.attributes("balanced")[attribute]
    tested, truth = to_input(known.pictures("balanced")), known.prompts("balanced")
    found = {
        "arm": arm,
        "seed": seed,
        "attribute": attribute,
        "real": len(prompts) - len(added),
        "synthetic": len(added),
        "groups": by_group(estimated(model, tested, classes), truth, groups),
    }
    write_json(one.result, found)
    return found


def fit_prompts(
    images: Tensor, prompts: Sequence[str], classes: Sequence[str], seed: int, folder: Path
) -> torch.nn.Module:
    """A small network that tells prompts apart; the same steps however many pictures there are."""
    recipe = Recipe(seed=seed)
    model = small_classifier.build(recipe, {"prompt": tuple(classes)})
    pictures = small_classifier.Pictures(
        images,
        {"prompt": torch.tensor([classes.index(prompt) for prompt in prompts])},
        torch.arange(len(images)),
    )
    small_classifier.fit_classifier(
        model, pictures, recipe, folder, "downstream classifier", title="classifier of the prompt"
    )
    return model.requires_grad_(False).eval()


def estimated(model: torch.nn.Module, images: Tensor, classes: Sequence[str]) -> list[str]:
    """The most likely prompt of each picture."""
    found = torch.cat([model(part)["prompt"].argmax(1) for part in images.split(256)])
    return [classes[k] for k in found.tolist()]


def by_group(
    seen: Sequence[str], truth: Sequence[str], groups: Sequence[str]
) -> list[dict[str, Any]]:
    """Accuracy of each group of prompt and attribute with its count and 95 % interval."""
    found = []
    keys, right = list(zip(truth, groups, strict=True)), np.array(seen) == np.array(truth)
    for key in sorted(set(keys)):
        inside = right[[one == key for one in keys]]
        count, total = np.array([inside.sum()]), np.array([len(inside)])
        low, high = wilson(count, total)
        entry = {"prompt": key[0], "group": key[1], "count": int(count[0]), "images": len(inside)}
        ends = {"value": float(inside.mean()), "low": float(low[0]), "high": float(high[0])}
        found.append(entry | ends)
    return found
