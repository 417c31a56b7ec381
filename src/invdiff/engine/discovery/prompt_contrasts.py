"""Every image under every prompt: which prompts stand for all, and what the passes found."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from invdiff.core.discovery.evidence import Contrasts
from invdiff.data.samples import Samples

MOST = 8  # prompts that the images of all are compared under: the passes grow with them


@dataclass(frozen=True)
class ContrastLosses:
    """Losses of the images ``rows`` under the prompts ``names``, at high noise levels."""

    losses: Float[np.ndarray, "row prompt level draw"]
    names: tuple[str, ...]
    rows: np.ndarray

    def mean(self) -> Contrasts:
        """Means over the noise draws."""
        return Contrasts(self.losses.mean(3).astype(np.float64), self.names, self.rows)


def standing_for_all(samples: Samples, rows: np.ndarray) -> dict[str, str]:
    """The most frequent prompts among ``rows``, each with its most frequent caption; by name."""
    counted = Counter(samples.prompt[i] for i in rows)
    names = sorted(sorted(counted, key=lambda name: (-counted[name], name))[:MOST])
    captions = {name: Counter[str]() for name in names}
    for name, caption in zip(samples.prompt, samples.caption, strict=True):
        if name in captions:
            captions[name][caption] += 1
    return {name: max(sorted(of), key=of.__getitem__) for name, of in captions.items()}
