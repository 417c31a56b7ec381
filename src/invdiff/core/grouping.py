"""The max step: from scores and features to inferred groups, and whether there is anything at all.

Group 0 goes *with* what the model has learnt for the prompt, group 1 *against* it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.special import entr

from invdiff.core.candidates import (
    LEADING,
    Candidate,
    Linear,
    Projection,
    cluster_candidates,
    split_candidates,
)
from invdiff.core.membership import Membership
from invdiff.core.settle import GroupModel, refine, settle, shifted
from invdiff.core.several import SeveralGroups
from invdiff.core.verdict import Verdict, explained_variance, judge_prompts

SETTLED = 12
LEAST_TIE = 0.02


@dataclass(frozen=True)
class Grouping:
    """Inferred groups: ``against[i]`` is q_i(1), the probability that image i is in group 1.

    Of more than two groups it has a row of q_i(0) to q_i(K-1) for each image; ``names`` says what
    each group of a prompt is where they are labels that were given. ``models`` gives the same for
    new images of a prompt, from their raw features. ``score`` names what the groups were read off,
    "excess", "contrast" or "loss"; empty for groups that were given. ``ranked_by`` says what the
    numbers of the ``ranking`` are.
    """

    against: Membership
    verdicts: dict[str, Verdict]
    models: Mapping[str, GroupModel | SeveralGroups]
    chosen: str
    ranking: tuple[tuple[str, float], ...]
    score: str = ""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranked_by: str = "share of the score's variance explained, times the tie to the prompt in nats"


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
    return mean_explained(member, score, prompt, min_share) * tie(member, prompt)


def tie(member: Float[np.ndarray, " sample"], prompt: np.ndarray) -> float:
    """Mutual information of group and prompt in nats, at least ``LEAST_TIE``; 1 for one prompt.

    Prompts count alike, however many images they have.
    """
    shares = np.array([member[prompt == name].mean() for name in np.unique(prompt)])
    if len(shares) == 1:
        return 1.0
    entropy = _entropy(np.append(shares, shares.mean()))
    return max(LEAST_TIE, float(entropy[-1] - entropy[:-1].mean()))


def _entropy(share: np.ndarray) -> np.ndarray:
    return entr(share) + entr(1 - share)


def semantic(
    score: Float[np.ndarray, " scored"],
    features: Float[np.ndarray, "sample feature"],
    scored: np.ndarray,
    prompt: np.ndarray,
    *,
    min_share: float,
    false_alarm: float,
    seed: int,
    wanted: float = 0.5,
) -> Grouping:
    """The best of both kinds of candidates, each settled, by their :func:`objective`.

    ``score`` (the excess at high noise, mean over draws and levels) is known for the rows
    ``scored`` of the data, ``features`` and ``prompt`` for all; the fitted models carry the groups
    over. ``wanted`` is the share of group 1 at which there is nothing to balance.
    """
    projection = Projection.fit(features)
    components = projection(features)
    own, names = components[scored], prompt[scored]
    candidates = list(cluster_candidates(own, names, seed))
    candidates += split_candidates(score, own, names, min_share, seed)
    best: tuple[float, str, GroupModels] = (-1.0, "", {})
    ranking = []
    known: dict[bytes, tuple[GroupModels, float]] = {}
    for candidate, _ in rank(candidates, score, names, min_share)[:SETTLED]:
        q = settled(candidate, components, scored, prompt)
        if q.tobytes() not in known:  # several candidates settle to the same groups
            models = refined_models(q, components, projection, prompt)
            member = apply(models, features, prompt)[scored]
            known[q.tobytes()] = models, objective(member, score, names, min_share)
        models, value = known[q.tobytes()]
        ranking.append((candidate.name, value))
        if value > best[0]:
            best = (value, candidate.name, models)
    models = orient(best[2], features[scored], score, names)
    against = apply(models, features, prompt)
    verdicts = judge_prompts(
        against,
        score,
        scored,
        prompt,
        min_share=min_share,
        false_alarm=false_alarm,
        candidates=len(candidates),
        wanted=wanted,
    )
    ranking.sort(key=lambda pair: -pair[1])
    return Grouping(against, verdicts, models, best[1], tuple(ranking), "excess")


GroupModels = dict[str, GroupModel]


def settled(
    candidate: Candidate,
    components: Float[np.ndarray, "sample component"],
    scored: np.ndarray,
    prompt: np.ndarray,
) -> Float[np.ndarray, " sample"]:
    """Memberships of all images in the mixture that a candidate settles to."""
    start = np.full(len(components), candidate.member.mean())
    start[scored] = candidate.member
    unseen = np.setdiff1d(np.arange(len(components)), scored)
    if len(unseen) and len(np.unique(candidate.member)) == 2:
        carried = Linear.fit(components[scored], candidate.member)
        start[unseen] = carried(components[unseen])
    q, _ = settle(components[:, :LEADING], start, prompt)
    return q


def refined_models(
    q: Float[np.ndarray, " sample"],
    components: Float[np.ndarray, "sample component"],
    projection: Projection,
    prompt: np.ndarray,
) -> GroupModels:
    """The model of each prompt, refined from memberships and fitted on all images."""
    direction, fitted = refine(components, q, prompt)
    weight = projection.axes @ direction
    offset = float(projection.mean @ weight)
    return {
        name: GroupModel(weight, shifted(ratio, offset), prior)
        for name, (ratio, prior) in fitted.items()
    }


def apply(
    models: GroupModels, features: Float[np.ndarray, "sample feature"], prompt: np.ndarray
) -> Float[np.ndarray, " sample"]:
    """q_i(1) of all images, each by the model of its prompt."""
    against = np.empty(len(features))
    for name, model in models.items():
        against[prompt == name] = model(features[prompt == name])
    return against


def orient(
    models: GroupModels,
    features: Float[np.ndarray, "scored feature"],
    score: Float[np.ndarray, " scored"],
    prompt: np.ndarray,
) -> GroupModels:
    """Turn each prompt's groups so that group 1 is the one that costs the model more."""
    turned = {}
    for name, model in models.items():
        rows = prompt == name
        q = model(features[rows])
        against = rows.sum() < 3 or np.cov(q, score[rows])[0, 1] >= 0
        turned[name] = model if against else model.flipped()
    return turned
