r"""How well two readers know what a model draws, where the truth is known.

    invdiff run --preset scenes --out runs/scenes
    python tools/redrawn.py runs/scenes --out build/redrawn.csv

Pictures of the balanced split that the classifier was not trained on, as many of each label, are
noised to a share of the way and drawn from there by the guided model (SDEdit, Meng et al. 2022),
which keeps the label of most. They are read by the classifier, which measures Bias, and by the
group model, which training looks back with. For each prompt: how often a reader is right, and the
share that it gives to the group against the model, which is one half in truth. A reader's error in
this share counts twice in Bias. Share 0 is the pictures as they are. Two labels; a run of a
built-in set in which groups were found. Twelve minutes on one core.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from invdiff.data.sets.stored import StoredSet, open_set
from invdiff.engine.base_model.loading import ModelRef, load_pipeline
from invdiff.engine.classifiers.choose import choose
from invdiff.engine.discovery.groups import Model, load_models
from invdiff.engine.discovery.passes import Features
from invdiff.engine.distributed.pool import one_thread
from invdiff.engine.distributed.randomness import halves
from invdiff.engine.encoding.encode import Encode
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.sampling.sampler import seed_of
from invdiff.engine.storage.files import write_with
from invdiff.engine.workflow import session_of
from invdiff.model.guidance.attach import attach
from invdiff.model.vision.attribute_classifier import AttributeClassifier

SHARES = (0.0, 0.4, 0.6)
SCALES = (1.0, 2.5, 5.0)
OF_EACH = 100
BATCH = 50


def held_out(
    kept: StoredSet, attribute: str, split_seed: int, prompt: str
) -> tuple[np.ndarray, np.ndarray]:
    """As many pictures of a prompt with each label, none of which the classifier learnt from."""
    pictures, labels = kept.pictures("balanced"), kept.attributes("balanced")[attribute]
    _, unseen = halves(len(labels), split_seed)
    told, asked = np.array(labels), np.array(kept.prompts("balanced"))
    rows = [
        unseen[(told[unseen] == c) & (asked[unseen] == prompt)][:OF_EACH]
        for c in sorted(set(labels))
    ]
    taken = np.sort(np.concatenate(rows))
    return pictures[taken], told[taken]


def redraw(
    run: RunFolder, pipe: Any, pictures: np.ndarray, prompt: str, share: float, scale: float
) -> np.ndarray:
    """The pictures, drawn again by the guided model from ``share`` of the way."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        some = [Image.fromarray(one) for one in pictures[start : start + BATCH]]
        numbers = range(start, start + len(some))
        seeds = [seed_of(run.config.seed, f"redrawn {prompt}", k) for k in numbers]
        drawn = pipe(
            [prompt] * len(some),
            image=some,
            strength=share,
            guidance_scale=scale,
            num_inference_steps=run.config.sample.steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        ).images
        parts.append((drawn * 255).round().astype(np.uint8))
    return np.concatenate(parts)


def against(run: RunFolder, source: ModelRef, model: Model, pictures: np.ndarray) -> np.ndarray:
    """Which pictures the group model takes for group 1."""
    levels = tuple(run.config.study.feature_levels)
    latents = Encode(source, BATCH)(pictures)["latent"]
    features = Features(source, run.config.seed, levels, 1, BATCH)(latents)["feature"]
    return np.ravel(model.log_ratio(features.double().numpy())) > 0


def rows(run: RunFolder, kept: StoredSet) -> Iterator[dict[str, Any]]:
    """A line for each prompt, share of the way and guidance scale."""
    chosen, source = choose(run.config), session_of(run).source
    if not isinstance(source, ModelRef) or chosen is None:
        raise SystemExit(f"{run.path} is no run of a built-in set")
    classifier, attribute = chosen.classifier, chosen.attribute
    if not isinstance(classifier, AttributeClassifier):
        raise SystemExit(f"{run.path} is not measured by a classifier of the set")
    told = json.loads((run.path / "discovery.json").read_text())["prompts"]
    known = load_models(run.path / "group_model.safetensors").items()
    models = {name: model for name, model in known if told[name]["found"]}
    if not models:
        raise SystemExit(f"{run.path} found no groups: there is no group model to read with")
    pipe = StableDiffusionImg2ImgPipeline(
        **load_pipeline(source).components, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    attach(pipe, run.path / "adapter")
    for prompt, model in models.items():
        pictures, truth = held_out(kept, attribute, classifier.facts["split_seed"], prompt)
        at_rest = against(run, source, model, pictures)
        rare = max(sorted(set(truth)), key=lambda label: ((truth == label) == at_rest).mean())
        for share, scale in [(w, s) for w in SHARES for s in (SCALES if w else SCALES[:1])]:
            drawn = redraw(run, pipe, pictures, prompt, share, scale) if share else pictures
            classes = classifier.estimate(classifier.features(drawn))[attribute]
            grouped = against(run, source, model, drawn)
            yield {
                "prompt": prompt,
                "noised": share,
                "scale": scale,
                "pictures": len(truth),
                "classifier right": round((classes == truth).mean(), 3),
                "classifier's share": round((classes == rare).mean(), 3),
                "group model right": round((grouped == (truth == rare)).mean(), 3),
                "group model's share": round(grouped.mean(), 3),
            }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    one_thread()
    run = RunFolder.read(asked.run)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for line in rows(run, open_set(run.config.data.path)):
        print(*line.values(), sep=" | ", flush=True)
        lines.append(line)
    write_with(asked.out, lambda beside: _write(beside, lines))


def _write(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(lines[0]))
        table.writeheader()
        table.writerows(lines)


if __name__ == "__main__":
    main()
