"""Memberships and mixes of any number of groups, two of which are written as one number.

Group 0 goes with what the model learnt for the prompt; the higher its number, the more a group goes
against it. Of two groups everything is said by the second: q_i(1) for each image, and its share.
More have a column each, q_i(0) to q_i(K-1), and a share each.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

Membership = Float[np.ndarray, " sample"] | Float[np.ndarray, "sample group"]
"""q_i(1) of two groups, or q_i(e) of any number, which add up to 1."""
Mix = float | Sequence[float] | Float[np.ndarray, " group"]
"""The share of group 1 of two, or the shares of all groups."""
LEAST_MASS = 1e-6  # of a group's mean membership: below it the group is absent


def memberships(member: Membership) -> Float[np.ndarray, "sample group"]:
    """One column for each group."""
    return np.stack([1 - member, member], 1) if member.ndim == 1 else member


def hard(member: Membership) -> Int[np.ndarray, " sample"]:
    """The group that each image belongs to most; of two equal ones the lower."""
    return memberships(member).argmax(1)


def shares_of(mix: Mix) -> Float[np.ndarray, " group"]:
    """The share of each group."""
    return np.array([1 - mix, mix]) if isinstance(mix, int | float) else np.array(mix, float)


def as_mix(shares: Float[np.ndarray, " group"]) -> float | list[float]:
    """Shares as they are stored: one number for two groups."""
    return float(shares[1]) if len(shares) == 2 else [float(share) for share in shares]


def present(member: Membership) -> np.ndarray:
    """Which groups have any mass among the images."""
    if len(member) == 0:
        return np.zeros(memberships(member).shape[1], bool)
    return memberships(member).mean(0) > LEAST_MASS


def within(mix: Mix, there: np.ndarray) -> Float[np.ndarray, " group"]:
    """The shares of ``mix`` among the groups that are ``there``; the others get none."""
    shares = shares_of(mix)
    if there.all() or not there.any():
        return shares
    kept = np.where(there, shares, 0.0)
    return kept / kept.sum()


def off_by(
    shares: Float[np.ndarray, " group"], wanted: Float[np.ndarray, " group"]
) -> Float[np.ndarray, " group"]:
    """How far each share is above the wanted one; that of group 0 is what the others lack."""
    others = shares[1:] - wanted[1:]
    return np.append(-others.sum(), others)
