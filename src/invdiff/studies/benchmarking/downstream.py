"""Does the evened-out set help who trains on it? A small classifier of the prompt, three times.

It is trained on the biased pictures of a built-in set; on these and the pictures that
:func:`~augment.augment` adds; and, to tell even groups from mere numbers, on
these and as many pictures of the base model. All three take the same steps and are tested on the
balanced split, which none has seen: the accuracy that counts is that of the worst group of prompt
and attribute. Labels are read for this test alone.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from invdiff.core.uncertainty.intervals import wilson
from invdiff.data.sets import builtin
from invdiff.data.sets.stored import open_set
from invdiff.engine.augmentation.augment import AugmentRequest, artist_of, augment, identity
from invdiff.engine.augmentation.drawing import Quota, draw_all, kept_pictures, read_ratios, top_up
from invdiff.engine.encoding.session import Session
from invdiff.engine.fitting import small_classifier
from invdiff.engine.fitting.simple_loop import Recipe
from invdiff.engine.run.environment import environment
from invdiff.engine.storage.files import read_json, write_json
from invdiff.engine.workflow import do_stage, session_of
from invdiff.model.vision.attribute_classifier import to_input
from invdiff.studies.benchmarking import page
from invdiff.studies.benchmarking.jobs import Job, beside_each_other, require_benchmark, row_slug
from invdiff.studies.benchmarking.measured import mean_over_prompts, over_seeds, seeds_of, tidy
from invdiff.studies.benchmarking.suites import DOWNSTREAM, OURS

CONFIDENCE = 0.95
ACCURACY, WORST, MEAN = "accuracy", "worst_group", "mean_of_groups"
LOWEST = "lowest_worst_group"
COLUMNS = (
    page.Column("real", "real", page.ENDS, 0),
    page.Column("synthetic", "synthetic", page.ENDS, 0),
    page.Column("worst group", WORST, page.INTERVAL, 3),
    page.Column("worst over the seeds", LOWEST, "{value} ({prompt}, {group})", 3),
    page.Column("mean of groups", MEAN, digits=3),
)


def accuracies(name: str, results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The tidy table of what each arm and seed has measured; the ``row`` is the arm.

    ``accuracy`` of each group of prompt and attribute, where ``count`` is of its pictures; ``real``
    and ``synthetic`` pictures trained on.
    """
    lines: list[dict[str, Any]] = []
    for result in results:
        known = {"set": name, "row": result["arm"], "seed": result["seed"]}
        lines += [known | {"metric": of, "value": result[of]} for of in ("real", "synthetic")]
        for group in result["groups"]:
            # the group's own count is of the pictures that were told right
            lines.append(known | group | {"metric": ACCURACY, "count": group["images"]})
    return tidy(lines)


def worst_groups(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each arm and seed the group of the lowest accuracy.

    Its interval allows for having been chosen (Bonferroni).
    """
    groups = page.where(rows, metric=ACCURACY).sort_values(
        ["value", "prompt", "group"], kind="stable"
    )
    by_seed = groups.groupby(["row", "seed"])
    worst = by_seed.head(1).sort_index()
    sizes = by_seed["value"].transform("size").loc[worst.index].to_numpy()
    total = worst["count"].to_numpy(np.int64)
    hits = np.rint(worst["value"].to_numpy() * total).astype(np.int64)
    parts = zip(hits, total, sizes, strict=True)
    ends = [wilson(np.array(k), np.array(n), 1 - (1 - CONFIDENCE) / of) for k, n, of in parts]
    low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
    return worst.assign(metric=WORST, low=low, high=high)


def write_accuracies(out: Path, name: str, results: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``table.md``, ``table.csv`` and ``summary.json`` into ``out``; returns the first."""
    rows = accuracies(name, results)
    worst, means = worst_groups(rows), mean_over_prompts(rows, [ACCURACY]).assign(metric=MEAN)
    summary = over_seeds(pd.concat([rows, worst.assign(prompt="", group=""), means]))
    lowest = worst.sort_values("value", kind="stable").drop_duplicates("row")
    shown = pd.concat([summary, lowest.assign(metric=LOWEST)])
    sizes = page.where(rows, metric=ACCURACY)["count"]
    seeds = seeds_of(rows)
    record = {
        "name": name,
        "suite": DOWNSTREAM,
        "seeds": seeds,
        "rows": summary.to_dict("records"),
        "versions": environment()["versions"],
    }
    context = {
        "arms": page.shown_table(
            shown, page.labels(rows, ["row"], len(seeds)).rename("trained on"), COLUMNS
        ),
        "attribute": results[0]["attribute"],
        "pictures": "..".join(f"{size:,}" for size in sorted({sizes.min(), sizes.max()})),
    }
    every = pd.concat([rows, worst, tidy(means.to_dict("records"))], ignore_index=True)
    return page.publish(out, every, record, context, "downstream")


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
    table = pd.DataFrame({"prompt": truth, "group": groups})
    right = table.assign(right=np.array(seen) == np.array(truth)).groupby(["prompt", "group"])
    found = right["right"].agg(count="sum", images="size", value="mean").reset_index()
    low, high = wilson(found["count"].to_numpy(), found["images"].to_numpy())
    return found.assign(low=low, high=high).to_dict("records")
