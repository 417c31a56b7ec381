"""Is there anything to balance in a prompt, and do two groupings agree?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

BALANCED_WITHIN = 0.05
LEAST_EXPLAINED = 0.02
FEWEST = 10  # scored images of a prompt that can be judged


@dataclass(frozen=True)
class Verdict:
    """What the max step says about one prompt.

    ``found``: there is something to balance. ``watched``: the groups mean something here, so that
    their shares among generated pictures are worth looking at; every found prompt is, and one
    whose groups are even already. ``explained`` is the share of the score's variance within the
    prompt that the groups explain; ``p_value`` is that of no relation, multiplied by the number of
    candidates tried; ``share`` is the inferred share of group 1 among all of the prompt's images.
    """

    found: bool
    watched: bool
    explained: float
    p_value: float
    share: float
    note: str


def explained_variance(
    member: Float[np.ndarray, " sample"], score: Float[np.ndarray, " sample"], min_share: float
) -> float:
    """The max step's objective as a share: variance between group means over total variance.

    Var_e R_e(q), weighted by group mass, divided by Var_i r_i (design 1.3); 0 when a group holds
    less than ``min_share`` of the images.
    """
    share = float(member.mean())
    total = float(score.var())
    if not min_share <= share <= 1 - min_share or total == 0:
        return 0.0
    inside = float(member @ score) / member.sum()
    outside = float((1 - member) @ score) / (1 - member).sum()
    return share * (1 - share) * (inside - outside) ** 2 / total


def judge(
    against: Float[np.ndarray, " sample"],
    score: Float[np.ndarray, " scored"],
    scored: np.ndarray,
    rows: np.ndarray,
    *,
    min_share: float,
    false_alarm: float,
    candidates: int,
    wanted: float = 0.5,
) -> Verdict:
    """Is there anything to balance in this prompt?

    Three things must hold: the groups are related to the score (correlation test, Bonferroni over
    the candidates), the relation is not tiny, and the share of group 1 is not ``wanted`` already.
    """
    inside = rows[scored]
    member, values = against[scored][inside], score[inside]
    share = float(against[rows].mean())
    if inside.sum() < FEWEST or np.ptp(member) < 1e-6 or np.ptp(values) == 0:
        return Verdict(False, False, 0.0, 1.0, share, "too few images or no groups to test")
    explained = explained_variance(member, values, min_share)
    p_value = min(1.0, candidates * float(stats.pearsonr(member, values).pvalue))
    if p_value > false_alarm or explained < LEAST_EXPLAINED:
        note = "nothing to balance: the groups do not differ in the score"
        return Verdict(False, False, explained, p_value, share, note)
    if abs(share - wanted) <= BALANCED_WITHIN:
        note = f"nothing to balance: {met(wanted)}"
        return Verdict(False, True, explained, p_value, share, note)
    return Verdict(True, True, explained, p_value, share, "")


def judge_prompts(
    against: Float[np.ndarray, " sample"],
    score: Float[np.ndarray, " scored"],
    scored: np.ndarray,
    prompt: np.ndarray,
    **rules: Any,
) -> dict[str, Verdict]:
    """The verdict on each prompt, by name; ``rules`` as those of :func:`judge`."""
    return {
        str(name): judge(against, score, scored, prompt == name, **rules)
        for name in np.unique(prompt)
    }


def met(wanted: float) -> str:
    """What to say of groups whose shares are the ``wanted`` ones."""
    shares = "even" if wanted == 0.5 else f"{1 - wanted:.0%} and {wanted:.0%}"
    return f"the groups are {shares} already"


def agreement(
    first: Float[np.ndarray, " sample"], second: Float[np.ndarray, " sample"], prompt: np.ndarray
) -> float:
    """Share of images in the same group of both groupings, mean over prompts (0.5 = chance)."""
    same = (first > 0.5) == (second > 0.5)
    return float(np.mean([same[prompt == name].mean() for name in np.unique(prompt)]))
