"""The clearest two groups that all prompts have: what is asked where no prompt tells.

A skew that is the same under every prompt shows in the plain loss alone, beside everything else
that makes a picture hard to denoise, and many partitions explain some of that. So the loss does not
choose. What people call an attribute is a gap in the features; the groups are those of the widest
gap that is there under every prompt, and the loss is asked whether they are a skew.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import entr

from invdiff.core.discovery.candidates import cluster_candidates
from invdiff.core.discovery.estimators.semantic import CARRIED_ON
from invdiff.core.discovery.grouping import Grouping, apply, orient
from invdiff.core.discovery.refinement import refined_models, shared_shift_memberships
from invdiff.core.discovery.verdict import FEWEST, judge_prompts
from invdiff.core.groups.features import LEADING, Projection, centre_within_prompts


class Settled(NamedTuple):
    """Memberships of all images that a cluster settled to."""

    clarity: float
    name: str
    q: Float[np.ndarray, " sample"]


def widest_gap(
    loss: Float[np.ndarray, " scored"],
    features: Float[np.ndarray, "sample feature"],
    scored: np.ndarray,
    prompt: np.ndarray,
    *,
    min_share: float,
    false_alarm: float,
    seed: int,
    wanted: float = 0.5,
) -> Grouping | None:
    """The groups of the largest :func:`gap_nats`, judged by the plain ``loss`` at high noise.

    Clusters of the features (:func:`candidates.cluster_candidates`) settle; those that
    a prompt has not (less than ``min_share`` of its scored images, if it has enough to judge) are
    left out: they are content of the other prompts. None if there are none, or if two groups tell
    nothing that one does not. For the arguments see :func:`semantic.semantic`.
    """
    projection = Projection.fit(features)
    components = projection(features)
    leading, names = components[:, :LEADING], prompt[scored]
    candidates = [
        (gap_nats(leading[scored], one.member * 1.0, names), one)
        for one in cluster_candidates(components[scored], names, seed)
        if _everywhere(one.member * 1.0, names, min_share)
    ]
    candidates.sort(key=lambda pair: -pair[0])
    found: dict[bytes, Settled] = {}
    for _, candidate in candidates[:CARRIED_ON]:
        q = shared_shift_memberships(candidate, components, scored, prompt)
        member = q > 0.5
        key = min(member.tobytes(), (~member).tobytes())  # several candidates settle to the same
        if key not in found and _everywhere(q[scored], names, min_share):
            found[key] = Settled(gap_nats(leading, q, prompt), candidate.name, q)
    ranking = sorted(found.values(), key=lambda one: -one.clarity)
    if not ranking or ranking[0].clarity <= 0:
        return None
    _, chosen, q = ranking[0]
    models = refined_models(q, components, projection, prompt)
    models = orient(models, features[scored], loss, names)
    against = apply(models, features, prompt)
    verdicts = judge_prompts(
        against,
        loss,
        scored,
        prompt,
        min_share=min_share,
        false_alarm=false_alarm,
        candidates=1,  # the loss had no part in choosing them
        wanted=wanted,
    )
    told = tuple((one.name, one.clarity) for one in ranking)
    return Grouping(against, verdicts, models, chosen, told, "loss", ranked_by="clarity in nats")


def gap_nats(
    components: Float[np.ndarray, "sample component"],
    q: Float[np.ndarray, " sample"],
    prompt: np.ndarray,
) -> float:
    """Nats by which two groups describe an image's features better than one does.

    Less those it takes to say which of them the image is in. Two Gaussians of one covariance; each
    prompt has its own mean and shares, and the groups the same shift under all of them. Along their
    discriminant a share R^2 of the variance within prompts is between them, which is that of the
    least squares fit of q, and the gain is -log(1 - R^2) / 2 - H(group | prompt).
    """
    member, values = (
        centre_within_prompts(q[:, None], prompt)[:, 0],
        centre_within_prompts(components, prompt),
    )
    along, square = member @ values, values.T @ values
    # Of the groups as they would be drawn: memberships that are all alike tell none apart.
    total = float(member @ member + (q * (1 - q)).sum())
    inside = float(along @ np.linalg.lstsq(square, along)[0]) / (total + 1e-12)
    shares = q - member
    entropy = float((entr(shares) + entr(1 - shares)).mean())
    return float(-0.5 * np.log1p(-min(inside, 1 - 1e-9))) - entropy


def _everywhere(q: Float[np.ndarray, " sample"], prompt: np.ndarray, min_share: float) -> bool:
    """Whether every prompt that has enough images to judge has both groups."""
    names, counts = np.unique(prompt, return_counts=True)
    shares = np.array([q[prompt == name].mean() for name in names[counts >= FEWEST]])
    return len(shares) > 0 and bool(shares.min() >= min_share and shares.max() <= 1 - min_share)
