"""Bias scores: what an image costs the frozen model under its own prompt and under none.

InvDiff (arXiv 2412.08480) scores an image by its denoising loss at one random level with noise of
its own. Here all images share the noise of each level, because at the levels where a bias is
decided the differences between images are far smaller than those between draws of the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Scores:
    """Losses per image, level and draw, in v space, averaged over latent dimensions.

    ``excess`` is loss minus null loss: how complicated a picture is cancels. Levels may have
    different numbers of draws; where a level has none left there is NaN.
    """

    loss: Float[np.ndarray, "sample level draw"]
    null_loss: Float[np.ndarray, "sample level draw"]

    @property
    def excess(self) -> Float[np.ndarray, "sample level draw"]:
        """Own-prompt loss minus null-prompt loss (design 1.2)."""
        return self.loss - self.null_loss

    @property
    def draws(self) -> Int[np.ndarray, " level"]:
        """How many draws each level has."""
        return (~np.isnan(self.loss)).any(0).sum(1)

    def extended(self, at: Sequence[int], more: "Scores") -> "Scores":
        """These scores and further draws of the levels ``at``, which have no others after ours."""
        return Scores(
            _joined(self.loss, at, more.loss), _joined(self.null_loss, at, more.null_loss)
        )


def _joined(values: np.ndarray, at: Sequence[int], more: np.ndarray) -> np.ndarray:
    further = np.full((*values.shape[:2], more.shape[2]), np.nan, values.dtype)
    further[:, list(at)] = more
    return np.concatenate([values, further], 2)


def mean_of_draws(
    values: Float[np.ndarray, "sample level draw"],
) -> Float[np.ndarray, "sample level"]:
    """The mean over each level's own draws."""
    ragged = np.isnan(values).any()
    mean: np.ndarray = np.nanmean(values, 2) if ragged else values.mean(2)
    return mean


def mean_of_levels(values: Float[np.ndarray, "sample level draw"]) -> Float[np.ndarray, " sample"]:
    """The mean over levels and draws; every level counts the same, however many draws it has."""
    ragged = np.isnan(values).any()
    mean: np.ndarray = mean_of_draws(values).mean(1) if ragged else values.mean((1, 2))
    return mean


def reliability(
    score: Float[np.ndarray, "sample level draw"], prompt: np.ndarray
) -> Float[np.ndarray, " level"]:
    """Split-half reliability of a score within prompts, for each level; 1 = no noise in it.

    The correlation of the means over even and odd draws, stepped up by Spearman and Brown. NaN
    with fewer than two draws; where levels have different numbers of draws, each has at least two.
    """
    levels, draws = score.shape[1:]
    if draws < 2:
        return np.full(levels, np.nan)
    centred = score - _prompt_means(score, prompt)
    halves = mean_of_draws(centred[:, :, 0::2]), mean_of_draws(centred[:, :, 1::2])
    found = [np.corrcoef(halves[0][:, k], halves[1][:, k])[0, 1] for k in range(levels)]
    correlation = np.clip(np.array(found), -0.99, 1.0)
    return 2 * correlation / (1 + correlation)


def _prompt_means(score: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    means = np.empty_like(score)
    for name in np.unique(prompt):
        rows = prompt == name
        means[rows] = score[rows].mean(0)
    return means
