"""The max step: from scores and features to inferred groups, and whether there is anything at all.

Group 0 goes *with* what the model has learnt for the prompt, group 1 *against* it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.special import entr

from invdiff.core.candidates import (
    Candidate,
    Linear,
    Projection,
    cluster_candidates,
    split_candidates,
)
from invdiff.core.settle import GroupModel, refine, settle, shifted

SETTLED = 12
LEADING = 64  # components that the mixture sees: its covariance needs many images for each
LEAST_TIE = 0.02


@dataclass(frozen=True)
class Verdict:
    """What the max step says about one prompt.

    ``found``: there is something to balance. ``watched``: the groups mean something here, so that
    their shares among generated pictures are worth looking at; every found prompt is, and one
    whose groups are even already. ``explained`` is the share of the score's variance within the
    prompt that the groups explain; ``p_value`` is that of no relation, multiplied by the number of
    candidates tried; ``share`` is the inferred share of group 1 among all of the prompt's images.
    """

    found: bool
    watched: bool
    explained: float
    p_value: float
    share: float
    note: str


@dataclass(frozen=True)
class Grouping:
    """Inferred groups: ``against[i]`` is q_i(1), the probability that image i is in group 1.

    ``models`` gives the same for new images of a prompt, from their raw features.
    """

    against: Float[np.ndarray, " sample"]
    verdicts: dict[str, Verdict]
    models: dict[str, GroupModel]
    chosen: str
    ranking: tuple[tuple[str, float], ...]


def explained_variance(
    member: Float[np.ndarray, " sample"], score: Float[np.ndarray, " sample"], min_share: float
) -> float:
    """The max step's objective as a share: variance between group means over total variance.

    Var_e R_e(q), weighted by group mass, divided by Var_i r_i (design 1.3); 0 when a group holds
    less than ``min_share`` of the images.
    """
    share = float(member.mean())
    total = float(score.var())
    if not min_share <= share <= 1 - min_share or total == 0:
        return 0.0
    inside = float(member @ score) / member.sum()
    outside = float((1 - member) @ score) / (1 - member).sum()
    return share * (1 - share) * (inside - outside) ** 2 / total


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
) -> Grouping:
    """The default estimator: both kinds of candidates, each settled, ranked by the objective.

    ``score`` (excess at high noise, mean over draws and levels) is known for the rows ``scored``
    of the data, ``features`` and ``prompt`` for all; the fitted models carry the groups over.
    """
    projection = Projection.fit(features)
    components = projection(features)
    own, names = components[scored], prompt[scored]
    candidates = list(cluster_candidates(own, names, seed))
    candidates += split_candidates(score, own, names, min_share, seed)
    best: tuple[float, str, GroupModels] = (-1.0, "", {})
    ranking = []
    for candidate, _ in rank(candidates, score, names, min_share)[:SETTLED]:
        models = settled_models(candidate, components, projection, scored, prompt)
        member = apply(models, features, prompt)[scored]
        value = objective(member, score, names, min_share)
        ranking.append((candidate.name, value))
        if value > best[0]:
            best = (value, candidate.name, models)
    models = orient(best[2], features[scored], score, names)
    against = apply(models, features, prompt)
    verdicts = {
        str(name): judge(
            against,
            score,
            scored,
            prompt == name,
            min_share=min_share,
            false_alarm=false_alarm,
            candidates=len(candidates),
        )
        for name in np.unique(prompt)
    }
    ranking.sort(key=lambda pair: -pair[1])
    return Grouping(against, verdicts, models, best[1], tuple(ranking))


GroupModels = dict[str, GroupModel]


def settled_models(
    candidate: Candidate,
    components: Float[np.ndarray, "sample component"],
    projection: Projection,
    scored: np.ndarray,
    prompt: np.ndarray,
) -> GroupModels:
    """The model of each prompt that a candidate settles to, fitted on all images."""
    start = np.full(len(components), candidate.member.mean())
    start[scored] = candidate.member
    unseen = np.setdiff1d(np.arange(len(components)), scored)
    if len(unseen) and len(np.unique(candidate.member)) == 2:
        carried = Linear.fit(components[scored], candidate.member)
        start[unseen] = carried(components[unseen])
    q, _ = settle(components[:, :LEADING], start, prompt)
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


BALANCED_WITHIN = 0.05
LEAST_EXPLAINED = 0.02


def judge(
    against: Float[np.ndarray, " sample"],
    score: Float[np.ndarray, " scored"],
    scored: np.ndarray,
    rows: np.ndarray,
    *,
    min_share: float,
    false_alarm: float,
    candidates: int,
) -> Verdict:
    """Is there anything to balance in this prompt?

    Three things must hold: the groups are related to the score (correlation test, Bonferroni over
    the candidates), the relation is not tiny, and their shares are not even already.
    """
    inside = rows[scored]
    member, values = against[scored][inside], score[inside]
    share = float(against[rows].mean())
    if inside.sum() < 10 or np.ptp(member) < 1e-6 or np.ptp(values) == 0:
        return Verdict(False, False, 0.0, 1.0, share, "too few images or no groups to test")
    explained = explained_variance(member, values, min_share)
    p_value = min(1.0, candidates * float(stats.pearsonr(member, values).pvalue))
    if p_value > false_alarm or explained < LEAST_EXPLAINED:
        note = "nothing to balance: the groups do not differ in the score"
        return Verdict(False, False, explained, p_value, share, note)
    if abs(share - 0.5) <= BALANCED_WITHIN:
        note = "nothing to balance: the groups are even already"
        return Verdict(False, True, explained, p_value, share, note)
    return Verdict(True, True, explained, p_value, share, "")


def agreement(
    first: Float[np.ndarray, " sample"], second: Float[np.ndarray, " sample"], prompt: np.ndarray
) -> float:
    """Share of images in the same group of both groupings, mean over prompts (0.5 = chance)."""
    same = (first > 0.5) == (second > 0.5)
    return float(np.mean([same[prompt == name].mean() for name in np.unique(prompt)]))
