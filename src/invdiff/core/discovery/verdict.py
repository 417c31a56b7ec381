"""Is there anything to balance in a prompt, and do two groupings agree?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.optimize import linear_sum_assignment

from invdiff.core.discovery.objective import explained_variance
from invdiff.core.groups.memberships import Membership, Mix, hard, shares_of

BALANCED_WITHIN = 0.05
LEAST_EXPLAINED = 0.02
FEWEST = 10  # scored images of a prompt that can be judged


@dataclass(frozen=True)
class Verdict:
    """What the max step says about one prompt.

    ``found``: there is something to balance. ``monitored``: the groups mean something here, so that
    their shares among generated pictures are worth looking at; every found prompt is, and one
    whose groups are even already. ``explained`` is the share of the score's variance within the
    prompt that the groups explain; ``p_value`` is that of no relation, multiplied by the number of
    candidates tried; ``share`` is the inferred share of group 1 among all of the prompt's images.
    Of more than two groups ``shares`` has them all, and ``share`` is that of all but group 0.
    """

    found: bool
    monitored: bool
    explained: float
    p_value: float
    share: float
    note: str
    shares: tuple[float, ...] = ()

    @property
    def mix(self) -> tuple[float, ...]:
        """The share of each group."""
        return self.shares or (1 - self.share, self.share)


def judge_prompt(
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
    """The verdict on each prompt, by name; ``rules`` as those of :func:`judge_prompt`."""
    return {
        str(name): judge_prompt(against, score, scored, prompt == name, **rules)
        for name in np.unique(prompt)
    }


def met(wanted: Mix) -> str:
    """What to say of groups whose shares are the ``wanted`` ones."""
    mix = shares_of(wanted)
    shares = "even" if np.ptp(mix) == 0 else " and ".join(f"{share:.0%}" for share in mix)
    return f"the groups are {shares} already"


def group_agreement(first: Membership, second: Membership, prompt: np.ndarray) -> float:
    """Share of images in the same group of both groupings, mean over prompts (0.5 = chance).

    More than two groups are matched with each other within the prompt first: their order, by the
    score, may differ where they cost about the same.
    """
    one, other = hard(first), hard(second)
    if first.ndim == second.ndim == 1:
        return float(np.mean([(one == other)[prompt == n].mean() for n in np.unique(prompt)]))
    return float(np.mean([_matched(one[rows], other[rows]) for rows in _rows_of(prompt)]))


def _rows_of(prompt: np.ndarray) -> list[np.ndarray]:
    return [prompt == name for name in np.unique(prompt)]


def _matched(first: np.ndarray, second: np.ndarray) -> float:
    """Share of images in groups that are matched one to one, as well as possible."""
    counts = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(counts, (first, second), 1)
    return float(counts[linear_sum_assignment(-counts)].sum() / len(first))
