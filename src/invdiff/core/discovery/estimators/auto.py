"""The default: all prompts beside each other, and the plain loss where that shows nothing.

A skew that is the same under every prompt moves no prompt against another and cancels in the
excess. It is left in the loss, together with everything else that makes a picture hard to denoise.
So the loss is asked second, about the clearest groups that all prompts have, and more is asked of
it. With a single prompt there is nothing to contrast, and the excess takes the place of the
contrasts.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from invdiff.core.discovery.estimators.contrast import contrast_estimator
from invdiff.core.discovery.estimators.semantic import semantic
from invdiff.core.discovery.estimators.widest_gap import widest_gap
from invdiff.core.discovery.grouping import Grouping
from invdiff.core.discovery.prompt_contrasts import Contrasts
from invdiff.core.discovery.verdict import FEWEST

LEAST_OF_LOSS = 0.1
"""Share of the loss's variance that the groups must explain under every prompt."""
RAREST = 0.2
"""Largest share of the rarer group: one of five even classes costs more than the rest as well."""


def auto_estimator(
    excess: Float[np.ndarray, " scored"],
    loss: Float[np.ndarray, " scored"],
    contrasts: Callable[[], Contrasts] | None,
    features: Float[np.ndarray, "sample feature"],
    scored: np.ndarray,
    prompt: np.ndarray,
    *,
    min_share: float,
    false_alarm: float,
    seed: int,
    wanted: float = 0.5,
) -> Grouping:
    """Groups by contrasts, by :func:`semantic` on the excess of a single prompt, or on the loss.

    All are those at high noise. If the first groups mean something under any prompt the loss is not
    looked at. If they don't, :func:`widest_gap.widest_gap` chooses groups without it, and
    they count where they are :func:`alike`. ``contrasts`` is called at most once; without it the
    excess takes its place for several prompts too.
    """
    asked: dict[str, Any] = {
        "features": features,
        "scored": scored,
        "prompt": prompt,
        "min_share": min_share,
        "false_alarm": false_alarm,
        "wanted": wanted,
    }
    if contrasts is not None and len(np.unique(prompt[scored])) > 1:
        first = contrast_estimator(contrasts, excess, **asked)
    else:
        first = semantic(excess, seed=seed, **asked)
    if any(verdict.monitored for verdict in first.verdicts.values()):
        return first
    second = widest_gap(loss, seed=seed, **asked)
    return second if second and alike(second, features[scored], prompt[scored]) else first


def alike(
    grouping: Grouping, features: Float[np.ndarray, "scored feature"], prompt: np.ndarray
) -> bool:
    """Whether every prompt has the same rare group, and it costs more under all of them.

    That is what a skew without a tie to the prompt looks like. A look of one prompt's content that
    is hard to denoise is not, and what the prompts have in unlike shares the excess would show.
    """
    names, counts = np.unique(prompt, return_counts=True)
    signs = set()
    for name in names[counts >= FEWEST]:
        verdict, model = grouping.verdicts[str(name)], grouping.models[str(name)]
        if not (verdict.found and verdict.explained >= LEAST_OF_LOSS and verdict.share <= RAREST):
            return False
        inside = features[prompt == name]
        signs.add(bool(np.cov(model(inside), inside @ model.weight)[0, 1] >= 0))
    return len(signs) == 1
