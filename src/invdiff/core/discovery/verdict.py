"""Is there anything to balance in a prompt, and do two groupings agree?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from invdiff.core.discovery.attributes import InferredAttribute
from invdiff.core.groups.memberships import Mix, off_by, shares_of, within

BALANCED_WITHIN = 0.05
FEWEST = 10  # scored images of a prompt that can be judged


@dataclass(frozen=True)
class Verdict:
    """What the max step says about one prompt.

    ``found``: there is something to balance. ``monitored``: the groups mean something here, so that
    their shares among generated pictures are worth looking at; every found prompt is, and one
    whose groups are even already. ``explained`` is the share of the score's variance within the
    prompt that the groups explain; ``p_value`` is that of the attribute. ``share`` is the
    inferred share of group 1 among all of the prompt's images.
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


@dataclass(frozen=True)
class Rules:
    """When there is something to balance (docs: Settings, discover)."""

    min_share: float = 0.02
    false_alarm: float = 0.01
    wanted: float = 0.5


def judge_prompt(
    against: Float[np.ndarray, " sample"],
    score: Float[np.ndarray, " scored"],
    scored: np.ndarray,
    rows: np.ndarray,
    attribute: InferredAttribute | None,
    rules: Rules,
) -> Verdict:
    """Is there anything to balance in this prompt?

    There is if an attribute was chosen, the prompt has both of its values, and group 1 has not the
    ``wanted`` share already.
    """
    inside = rows[scored]
    member, values = against[scored][inside], score[inside]
    share = float(against[rows].mean())
    if inside.sum() < FEWEST:
        return Verdict(False, False, 0.0, 1.0, share, "too few images to look for groups")
    explained = explained_variance(member, values)
    if attribute is None:
        note = "nothing to balance: no clear attribute was found"
        return Verdict(False, False, explained, 1.0, share, note)
    p_value = attribute.p_value
    if not rules.min_share <= share <= 1 - rules.min_share:
        note = "nothing to balance: nearly all pictures are in one group"
        return Verdict(False, False, explained, p_value, share, note)
    if abs(share - rules.wanted) <= BALANCED_WITHIN:
        note = f"nothing to balance: {met(rules.wanted)}"
        return Verdict(False, True, explained, p_value, share, note)
    return Verdict(True, True, explained, p_value, share, "")


def judge_crossed(
    member: Float[np.ndarray, "image group"],
    scored: Float[np.ndarray, "scored group"],
    score: Float[np.ndarray, " scored"],
    there: Bool[np.ndarray, " group"],
    p_value: float,
) -> Verdict:
    """Is there anything to balance in a prompt whose groups are crossed values of attributes?

    There is if several are ``there`` and one has not its even share already.
    """
    shares = member.mean(0)
    rest, mix = float(1 - shares[0]), tuple(shares.tolist())
    if len(scored) < FEWEST:
        note = "too few images to look for groups"
        return Verdict(False, False, 0.0, 1.0, rest, note, mix)
    explained = 0.0
    if np.ptp(score) > 0:
        means = scored.T @ score / (scored.sum(0) + 1e-12)
        explained = float(np.var(scored @ means) / np.var(score))
    if there.sum() < 2:
        note = "nothing to balance: nearly all pictures are in one group"
        return Verdict(False, False, explained, p_value, rest, note, mix)
    wanted = within(np.full(len(shares), 1 / len(shares)), there)
    uneven = is_uneven(shares, wanted)
    note = "" if uneven else f"nothing to balance: {met(wanted[there])}"
    return Verdict(uneven, True, explained, p_value, rest, note, mix)


def is_uneven(shares: Float[np.ndarray, " group"], wanted: Float[np.ndarray, " group"]) -> bool:
    """Whether a group has not its wanted share already."""
    return bool(abs(off_by(shares, wanted)).max() > BALANCED_WITHIN)


def explained_variance(
    member: Float[np.ndarray, " sample"], score: Float[np.ndarray, " sample"]
) -> float:
    """The share of the score's variance that lies between the groups, 0..1."""
    if len(member) < 3 or np.ptp(member) < 1e-6 or np.ptp(score) == 0:
        return 0.0
    return float(np.corrcoef(member, score)[0, 1] ** 2)


def met(wanted: Mix) -> str:
    """What to say of groups whose shares are the ``wanted`` ones."""
    mix = shares_of(wanted)
    shares = "even" if np.ptp(mix) == 0 else " and ".join(f"{share:.0%}" for share in mix)
    return f"the groups are {shares} already"
