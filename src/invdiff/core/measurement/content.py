"""Whether generated pictures still show their prompts, judged by a denoiser and without labels.

A picture shows its prompt where the denoiser loses least under it. A strength that loses prompts is
told from chance by the exact test of Cochran, Mantel and Haenszel (Agresti, Categorical Data
Analysis, 6.3.4), one-sided, whose strata are the prompts.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import hypergeom

LEVELS = (0.5, 0.3)
"""Noise levels at which losses tell prompts apart and a skew does not.

At high noise, where a skewed attribute is decided, a picture of the under-represented group costs
least under another prompt, whatever else it shows.
"""
MOST_TEXTS = 8  # other prompts that a picture is compared under: the passes grow with them
FALSE_VETO = 0.01  # chance that a strength that loses nothing is said to lose prompts

Shown = tuple[int, int]
"""Of the pictures of one prompt: how many show it, how many there are."""


def shows_own_prompt(losses: Float[np.ndarray, "picture prompt"]) -> Bool[np.ndarray, " picture"]:
    """Whether each picture costs least under its own prompt, which is the first column."""
    return losses.argmin(1) == 0


def prompts_lost(base: Sequence[Shown], guided: Sequence[Shown]) -> float:
    """The p-value of no prompt being shown by fewer guided pictures than base ones.

    Small if all prompts together lose a little or one of them much: the smallest over both and the
    single prompts, times the number of tests. Base and guided pictures of the same seeds resemble
    each other, and the test takes them as independent: it errs on the side of no loss.
    """
    each = [_fewer([one], [other]) for one, other in zip(base, guided, strict=True)]
    if len(each) < 2:
        return each[0] if each else 1.0
    return min(1.0, 2 * min(_fewer(base, guided), len(each) * min(each)))


def _fewer(base: Sequence[Shown], guided: Sequence[Shown]) -> float:
    """The chance of so few guided pictures that show their prompts, given both together."""
    chances = np.ones(1)
    for (old, before), (new, after) in zip(base, guided, strict=True):
        possible = np.arange(after + 1)
        law = hypergeom.pmf(possible, before + after, old + new, after)
        chances = np.convolve(chances, law)
    return float(min(1.0, chances[: sum(new for new, _ in guided) + 1].sum()))
