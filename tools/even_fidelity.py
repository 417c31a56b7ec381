r"""What prompt fidelity owes to the shares of what is drawn.

    invdiff run --preset scenes --sample.guidance_scales '[1.0,2.5,5.0]' --out runs/scenes
    python tools/even_fidelity.py runs/scenes

A base model draws most pictures of a prompt with the attribute that it prefers, and draws the
others worse: evened-out shares then lower prompt fidelity even if no picture gets worse. For the
pictures of each run, before and after: prompt fidelity as it is measured, and if every attribute of
a prompt counted alike (mean over prompts and attributes; 95 % bootstrap intervals within these).
Both are a classifier's estimates. Runs of built-in sets; a second each.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from invdiff.engine.classifiers.choose import choose
from invdiff.engine.classifiers.classify import classify_pictures
from invdiff.engine.distributed.pool import one_thread
from invdiff.engine.evaluation.evaluate import arms_of
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.results import Results

RESAMPLES = 2000
FEWEST = 5


def estimates(run: RunFolder) -> Iterator[tuple[str, float, np.ndarray, np.ndarray, np.ndarray]]:
    """Arm, scale, and of its pictures (n,) prompt, attribute and whether the prompt is seen."""
    chosen = choose(run.config)
    if chosen is None or "prompt" not in chosen.classifier.classes:
        raise SystemExit(f"{run.path} is not measured by a classifier of a built-in set")
    samples = Results(run.path).samples
    for arm, scale, rows in arms_of(samples):
        seen = classify_pictures(run.path, samples, rows, chosen.classifier)
        told = seen.estimated
        yield arm, scale, seen.prompt, told[chosen.attribute], told["prompt"] == seen.prompt


def figures(
    prompt: np.ndarray, attribute: np.ndarray, seen: np.ndarray, owner: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Plain fidelity, and (value, low, high) with every attribute of a prompt counted alike."""
    cells = [
        seen[(prompt == name) & (attribute == label)]
        for name in np.unique(prompt)
        for label in np.unique(attribute)
    ]
    if min(map(len, cells)) < FEWEST:
        return float(seen.mean()), np.full(3, np.nan)
    drawn = [owner.choice(cell, (RESAMPLES, len(cell))).mean(1) for cell in cells]
    value = np.mean([cell.mean() for cell in cells])
    return float(seen.mean()), np.append(value, np.quantile(np.mean(drawn, 0), [0.025, 0.975]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    asked = parser.parse_args()
    one_thread()
    print("run | arm | scale | pictures | fidelity | attributes counted alike")
    for path in asked.runs:
        owner = np.random.default_rng(0)
        for arm, scale, prompt, attribute, seen in estimates(RunFolder.read(path)):
            plain, (value, low, high) = figures(prompt, attribute, seen, owner)
            even = (
                f"{value:.3f} [{low:.3f}, {high:.3f}]" if np.isfinite(value) else "too few of one"
            )
            print(path, arm, f"{scale:g}", len(seen), f"{plain:.3f}", even, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
