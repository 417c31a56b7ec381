"""The objective of the max step, on arrays and on tensors: what candidates are ranked by."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import entr
from torch import Tensor

from invdiff.core.discovery.candidates import Candidate

LEAST_INFORMATION = 0.02
LEAST_SHARE = 1e-6
RANKED_BY = (
    "share of the score's variance explained, times the mutual information with the prompt in nats"
)
"""What the numbers of a ranking are, in words."""


def rank(
    candidates: list[Candidate],
    score: Float[np.ndarray, " sample"],
    prompt: np.ndarray,
    min_share: float,
) -> list[tuple[Candidate, float]]:
    """Candidates with their :func:`objective`, best first."""
    scored = [
        (candidate, objective(candidate.member * 1.0, score, prompt, min_share))
        for candidate in candidates
    ]
    return sorted(scored, key=lambda pair: -pair[1])


def mean_explained(
    member: Float[np.ndarray, " sample"],
    score: Float[np.ndarray, " sample"],
    prompt: np.ndarray,
    min_share: float,
) -> float:
    """:func:`explained_variance`, averaged over prompts.

    The mean matters: subtypes of one prompt's own content can explain more within that prompt
    than the bias does, but not in the others.
    """
    rows = [prompt == name for name in np.unique(prompt)]
    return float(np.mean([explained_variance(member[r], score[r], min_share) for r in rows]))


def objective(
    member: Float[np.ndarray, " sample"],
    score: Float[np.ndarray, " sample"],
    prompt: np.ndarray,
    min_share: float,
) -> float:
    """What candidates are ranked by: explained variance times the tie between group and prompt.

    The ideal excess of an image is log p(y) / p(y | its attribute), so an attribute can only
    explain it as far as its shares differ between prompts. Without that factor a look that
    is merely easy to see at high noise (dark long hair) beats the attribute behind it (gender).
    """
    return mean_explained(member, score, prompt, min_share) * prompt_mutual_information(
        member, prompt
    )


def prompt_mutual_information(member: Float[np.ndarray, " sample"], prompt: np.ndarray) -> float:
    """Mutual information of group and prompt in nats; 1 for one prompt.

    At least :data:`LEAST_INFORMATION`. Prompts count alike, however many images they have.
    """
    shares = np.array([member[prompt == name].mean() for name in np.unique(prompt)])
    if len(shares) == 1:
        return 1.0
    entropy = _entropy(np.append(shares, shares.mean()))
    return max(LEAST_INFORMATION, float(entropy[-1] - entropy[:-1].mean()))


def _entropy(share: np.ndarray) -> np.ndarray:
    return entr(share) + entr(1 - share)


def explained_variance(
    member: Float[np.ndarray, " sample"], score: Float[np.ndarray, " sample"], min_share: float
) -> float:
    """The max step's objective as a share: variance between group means over total variance.

    Var_e R_e(q), weighted by group mass, divided by Var_i r_i; 0 when a group holds
    less than ``min_share`` of the images.
    """
    share = float(member.mean())
    total = float(score.var())
    if not min_share <= share <= 1 - min_share or total == 0:
        return 0.0
    inside = float(member @ score) / member.sum()
    outside = float((1 - member) @ score) / (1 - member).sum()
    return share * (1 - share) * (inside - outside) ** 2 / total


MIXED = 0.03  # a prompt with a smaller share of either group says nothing of their odds


def max_step_objective(
    q: Float[np.ndarray, " sample"],
    score: Float[np.ndarray, " sample"],
    prompt: np.ndarray,
    min_share: float,
) -> float:
    """:func:`objective`, the tie among prompts in which both groups are.

    A group that one prompt does not have at all is tied to the others by that alone; it may be no
    more than that prompt's own content.
    """
    inside = np.isin(prompt, mixed_prompts(q, prompt))
    if not inside.any():
        return 0.0
    return mean_explained(q, score, prompt, min_share) * prompt_mutual_information(
        q[inside], prompt[inside]
    )


def mixed_prompts(q: Float[np.ndarray, " sample"], prompt: np.ndarray) -> np.ndarray:
    """The prompts that have both groups."""
    names = np.unique(prompt)
    share = np.array([q[prompt == name].mean() for name in names])
    return names[(share >= MIXED) & (share <= 1 - MIXED)]


def differentiable_objective(members: list[Tensor], scores: list[Tensor]) -> Tensor:
    """:func:`objective` on tensors, for gradients: memberships and scores of each prompt.

    Shares are kept off 0 and 1, where the entropy has no gradient.
    """
    explained, share = [], []
    for q, r in zip(members, scores, strict=True):
        pi = q.mean().clamp(LEAST_SHARE, 1 - LEAST_SHARE)
        apart = (q @ r) / (pi * len(q)) - ((1 - q) @ r) / ((1 - pi) * len(q))
        explained.append(pi * (1 - pi) * apart**2 / r.var(correction=0).clamp_min(1e-30))
        share.append(pi)
    mean = torch.stack(explained).mean()
    if len(members) == 1:
        return mean
    shares = torch.stack(share)
    return mean * (_tensor_entropy(shares.mean()) - _tensor_entropy(shares).mean()).clamp_min(
        LEAST_INFORMATION
    )


def _tensor_entropy(share: Tensor) -> Tensor:
    return -(share * share.log() + (1 - share) * (1 - share).log())
