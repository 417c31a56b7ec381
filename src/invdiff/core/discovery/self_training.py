"""Groups that a linear model learns from its own groups, until they no longer change.

A line found in the losses of a few hundred images tells groups that are no cluster, but it is
as noisy as they are few. What they have in common with all the other images, which nobody scored,
is in the leading features: a logistic model fitted to the groups of most images says in which one
the rest are, in turn (self-training; Scudder 1965, IEEE Trans. Inf. Theory 11, 363).
"""

import numpy as np
from jaxtyping import Bool, Float

from invdiff.core.groups.features import CLUSTERED, cross_fit

ROUNDS = 8
STILL = 0.002


def self_trained(
    components: Float[np.ndarray, "sample component"], member: Bool[np.ndarray, " sample"]
) -> Bool[np.ndarray, " sample"]:
    """The groups that ``member`` leads to, on the leading components alone, and as many members.

    No image has a part in what is said of it, so that mistakes are not learnt by heart. Groups are
    whole rather than probabilities, which a penalised model brings nearer to one another in each
    round; and their number is kept, because of a rare group that is known badly hardly any image
    is a member with a chance above one half.
    """
    leading, count = components[:, :CLUSTERED], int(member.sum())
    for k in range(ROUNDS):
        chance = cross_fit(leading, member, k)  # other folds in each round
        updated = np.zeros(len(member), bool)
        updated[np.argsort(-chance, kind="stable")[:count]] = chance.any()
        moved, member = float((updated != member).mean()), updated
        if moved < STILL:
            break
    return member
