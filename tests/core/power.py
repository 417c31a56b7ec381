"""How often a skew is found, of which size: ``python -m tests.core.power 10`` (10 runs a row).

Of even shares there are three times as many: what is found there are the false alarms.

Planted data: four prompts of 300 images, two with the attribute in a share of them, two in the rest
of it. The losses shift by half the log-odds of the shares, in standard deviations of one loss: at
90 : 10 the groups then explain about a quarter of what is tested, as the rare ones of `faces` do.
"""

import sys
from collections.abc import Iterator

import numpy as np
from sklearn.metrics import roc_auc_score

from invdiff.core.discovery.grouping import infer_groups
from invdiff.core.uncertainty.intervals import wilson
from tests.core.planted import contrast, plant

SKEWS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
EVEN_TIMES = 3
IMAGES, GAP, EFFECT = 300, 3.0, 0.5


def search(skew: float, seed: int) -> tuple[int, float, float]:
    """Skewed prompts that were found, and mean area and explained variance of these."""
    shares = {"one": skew, "two": 1 - skew, "three": skew, "four": 1 - skew}
    data = plant(shares, IMAGES, seed, GAP)
    found = infer_groups(
        data.score,
        data.score,
        lambda: contrast(data, shares, EFFECT, seed),
        data.features,
        np.arange(len(data.prompt)),
        data.prompt,
        min_share=0.02,
        false_alarm=0.01,
        seed=seed,
    )
    names = [name for name, verdict in found.verdicts.items() if verdict.found]
    areas = [
        roc_auc_score(data.unusual(name), found.against[data.prompt == name])
        for name in names
        if skew != 0.5
    ]
    explained = [found.verdicts[name].explained for name in names]
    return len(names), *(float(np.mean(of)) if of else np.nan for of in (areas, explained))


def table(runs: int) -> Iterator[str]:
    """The rows of the table in docs/evidence/failures-and-limits.md."""
    yield "| shares | runs with a finding | prompts found | AUC | explained |"
    yield "|---|---|---|---|---|"
    for skew in SKEWS:
        tried = EVEN_TIMES * runs if skew == 0.5 else runs
        counts, areas, explained = np.transpose([search(skew, seed) for seed in range(tried)])
        hits = int((counts > 0).sum())
        low, high = wilson(np.array(hits), np.array(tried))
        means = [
            "-" if np.isnan(of).all() else f"{np.nanmean(of):.3f}" for of in (areas, explained)
        ]
        yield (
            f"| {100 * skew:.0f} : {100 * (1 - skew):.0f} | {hits} of {tried} "
            f"[{low:.2f}, {high:.2f}] | {counts.mean():.1f} of 4 | {means[0]} "
            f"| {means[1]} |"
        )


if __name__ == "__main__":
    for line in table(int(sys.argv[1])):
        print(line, flush=True)
