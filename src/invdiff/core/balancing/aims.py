"""What guided samples should show, and the training mix that gets them there."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit, softmax

from invdiff.core.groups.memberships import Mix, as_mix, shares_of


def first_aim(wanted: Mix, scales: Sequence[float]) -> Mix:
    """The mix to train towards at first, so that pictures at guidance ``scales`` show ``wanted``.

    Guidance at scale w raises the ratios of two groups' shares to the power w, as far as the null
    prompt has none to set against them. So what is trained is the mix whose ratios to the power of
    the mean scale are those wanted: an even mix stays even, and 70 : 30 at scale 2.5 asks for
    58 : 42. A group that is not wanted gets nothing.
    """
    target = shares_of(wanted)
    aim = np.zeros(len(target))
    own = target > 0
    aim[own] = softmax(np.log(target[own]) / np.mean(scales))
    return as_mix(aim)


def corrected_aim(
    aim: float,
    seen: Sequence[float],
    scales: Sequence[float],
    most: float = 0.85,
    wanted: float = 0.5,
) -> float:
    """The share to train towards, after the shares ``seen`` were sampled at guidance ``scales``.

    Guidance at scale w raises the odds of what is left to the power w, so an imbalance of log-odds
    d in the pictures is one of d / w in the model. Several scales are averaged with weights w: the
    larger the scale, the better its pictures tell a small imbalance. The aim moves against three
    quarters of it, because the pictures are few. It stays within [1 - most, most]. ``wanted`` is
    the share that the pictures are to show, at whichever scale.
    """
    left = logit(np.clip(seen, 0.02, 0.98)) - logit(wanted)
    step = 0.75 * left.sum() / sum(scales)
    return float(np.clip(expit(logit(aim) - step), 1 - most, most))


def corrected_mix(
    aim: Mix,
    seen: Sequence[Float[np.ndarray, " group"]],
    scales: Sequence[float],
    wanted: Mix,
    most: float = 0.85,
) -> Mix:
    """:func:`corrected_aim` for any number of groups.

    Guidance at scale w raises the *ratios* of what is left to the power w, so what is corrected are
    the logarithms of shares, which are then made to add up to 1. No group falls below
    2 (1 - most) of its wanted share: for two even groups that is [1 - most, most] again. A group
    that is not wanted, because the prompt has none of it, is left alone.
    """
    if isinstance(wanted, int | float):
        assert isinstance(aim, int | float), "aim and wanted mix have the same groups"
        return corrected_aim(aim, [float(one[1]) for one in seen], scales, most, wanted)
    target = shares_of(wanted)
    own = target > 0
    left = [np.log(one[own].clip(0.02)) - np.log(target[own]) for one in seen]
    step = 0.75 * np.sum(left, 0) / sum(scales)
    moved = np.zeros(len(target))
    moved[own] = softmax(np.log(shares_of(aim)[own]) - step)
    return at_least(moved, 2 * (1 - most) * target).tolist()


def at_least(
    shares: Float[np.ndarray, " group"], floor: Float[np.ndarray, " group"]
) -> Float[np.ndarray, " group"]:
    """Shares lifted to ``floor`` (sum below 1), at the cost of the others in proportion."""
    low = np.zeros(len(shares), bool)
    for _ in shares:
        rest = (1 - floor[low].sum()) / max(shares[~low].sum(), 1e-12)
        lifted = np.where(low, floor, shares * rest)
        if (lifted >= floor).all():
            break
        low |= lifted < floor
    return lifted
