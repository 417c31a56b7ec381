"""Bias scores: what an image costs the frozen model under its own prompt and under none.

InvDiff (arXiv 2412.08480) scores an image by its denoising loss at one random level with noise of
its own. Here all images share the noise of each level, because at the levels where a bias is
decided the differences between images are far smaller than those between draws of the noise.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Scores:
    """Losses per image, level and draw, in v space, averaged over latent dimensions.

    ``excess`` is loss minus null loss: how complicated a picture is cancels.
    """

    loss: Float[np.ndarray, "sample level draw"]
    null_loss: Float[np.ndarray, "sample level draw"]

    @property
    def excess(self) -> Float[np.ndarray, "sample level draw"]:
        """Own-prompt loss minus null-prompt loss (docs: What is scored)."""
        return self.loss - self.null_loss


def reliability(
    score: Float[np.ndarray, "sample level draw"], prompt: np.ndarray
) -> Float[np.ndarray, " level"]:
    """Split-half reliability of a score within prompts, for each level; 1 = no noise in it.

    The correlation of the means over even and odd draws, stepped up by Spearman and Brown. NaN
    with fewer than two draws.
    """
    levels, draws = score.shape[1:]
    if draws < 2:
        return np.full(levels, np.nan)
    centred = score - _prompt_means(score, prompt)
    halves = centred[:, :, 0::2].mean(2), centred[:, :, 1::2].mean(2)
    found = [np.corrcoef(halves[0][:, k], halves[1][:, k])[0, 1] for k in range(levels)]
    correlation = np.clip(np.array(found), -0.99, 1.0)
    return 2 * correlation / (1 + correlation)


def _prompt_means(score: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    means = np.empty_like(score)
    for name in np.unique(prompt):
        rows = prompt == name
        means[rows] = score[rows].mean(0)
    return means
