r"""An upper bound on the risk of every mixture of the groups.

Let K groups have risks L_1..L_K with mean mu and population variance S. A test distribution that
re-weighs the groups by w (w >= 0, sum w = 1) has the risk w . L, which is at most the largest L_e,
since a mean is no larger than its largest term. Let d be that L_e less mu. The deviations of the
other K - 1 groups sum to -d, so by Cauchy-Schwarz their squares sum to at least d^2 / (K - 1):

    K S >= d^2 + d^2 / (K - 1) = d^2 K / (K - 1),   that is   d <= sqrt((K - 1) S).

Equality holds where one group differs from all others, which are equal. For every lambda > 0 the
means of lambda S and (K - 1) / (4 lambda) give (arithmetic >= geometric)

    sqrt((K - 1) S) <= lambda S + (K - 1) / (4 lambda),   equal at lambda = sqrt((K - 1) / S) / 2,

so that mu + lambda Var(L), the objective of the min step, plus a constant bounds any mixture.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from invdiff.errors import InvDiffError

Z = stats.norm.ppf(0.975)


def bound(risks: Float[np.ndarray, " group"], variance_weight: float) -> float:
    """At least the risk of any mixture: mu + lambda Var + (K - 1) / (4 lambda), lambda > 0."""
    if variance_weight <= 0:
        raise InvDiffError(
            f"a bound needs a variance weight above 0, not {variance_weight:g}: leave it out for "
            "the tightest one"
        )
    slack = (len(risks) - 1) / (4 * variance_weight)
    return float(risks.mean() + variance_weight * risks.var() + slack)


def tight_bound(risks: Float[np.ndarray, " group"]) -> float:
    """The smallest :func:`bound` over all lambda: mu + sqrt((K - 1) Var)."""
    return float(risks.mean() + np.sqrt((len(risks) - 1) * risks.var()))


def worst_mixture(risks: Float[np.ndarray, " group"]) -> Float[np.ndarray, " group"]:
    """The mixture with the largest risk: all weight on the worst group (shared by equal ones)."""
    worst = risks == risks.max()
    return worst / worst.sum()


def group_risks(
    losses: Float[np.ndarray, " image"],
    prompts: np.ndarray,
    weights: Float[np.ndarray, "image group"],
) -> list[dict[str, Any]]:
    """Risk sum_i q_i(e) l_i / sum_i q_i(e) of every group of every prompt, with its interval.

    ``prompts`` are names or codes, ``weights`` the q_i(e). ``images`` is the group's mass sum_i
    q_i(e), rounded: the number of images if groups are hard. The interval is the normal one of a
    ratio of sums, at 95 %. A group without mass has risk NaN and 0 images.
    """
    found = []
    for prompt in np.unique(prompts).tolist():
        own, loss = weights[prompts == prompt], losses[prompts == prompt]
        for group in range(weights.shape[1]):
            mass = own[:, group].sum()
            share = own[:, group] / mass if mass > 0 else np.full(len(loss), np.nan)
            risk = share @ loss
            # One image, or all the weight on one, says nothing about the spread.
            few = not mass > 0 or 1 / (share @ share) < 1.5
            half = np.nan if few else Z * np.sqrt((share**2) @ (loss - risk) ** 2)
            found.append(
                {
                    "prompt": prompt,
                    "group": group,
                    "risk": float(risk),
                    "low": float(risk - half),
                    "high": float(risk + half),
                    "images": round(float(mass)),
                }
            )
    return found


def certificate(
    losses: Float[np.ndarray, " image"],
    prompts: Sequence[str],
    weights: Float[np.ndarray, "image group"],
) -> dict[str, Any]:
    """The certificate of one model on one set of images, as it stands in ``training.json``.

    Args:
        losses: per-image risk, of the denoising loss or of the regret; the same for both models.
        prompts: the prompt of each image.
        weights: q_i(e) >= 0, the soft group membership of each image within its prompt.

    Returns:
        groups (all of every prompt), mean, variance, bound (the tight one), worst and
        worst_mixture (one weight for each group). Groups without images have risk NaN and take no
        part; the bound is about the risks as estimated, not about their intervals.

    Raises:
        InvDiffError: losses that are not finite, negative weights, or no images at all.
    """
    _check(losses, weights)
    groups = group_risks(losses, np.asarray(prompts), weights)
    risks = np.array([group["risk"] for group in groups])
    there = ~np.isnan(risks)
    mixture = np.zeros(len(risks))
    mixture[there] = worst_mixture(risks[there])
    return {
        "groups": groups,
        "mean": float(risks[there].mean()),
        "variance": float(risks[there].var()),
        "bound": tight_bound(risks[there]),
        "worst": float(risks[there].max()),
        "worst_mixture": mixture.tolist(),
    }


def _check(losses: Float[np.ndarray, " image"], weights: Float[np.ndarray, "image group"]) -> None:
    if broken := int((~np.isfinite(losses)).sum()):
        raise InvDiffError(
            f"{broken} of {len(losses)} losses are not finite: the model or its pictures are "
            "broken, no bound holds"
        )
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise InvDiffError("group weights must be finite, at least 0 and not all 0: redo discover")
