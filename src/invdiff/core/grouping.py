"""The max step: from scores and features to inferred groups, and whether there is anything at all.

Group 0 goes *with* what the model has learnt for the prompt, group 1 *against* it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from invdiff.core.candidates import (
    Candidate,
    Scope,
    Linear,
    Projection,
    cluster_candidates,
    cross_fit,
    split_candidates,
)


@dataclass(frozen=True)
class Verdict:
    """What the max step says about one prompt.

    ``explained`` is the share of the score's variance within the prompt that the groups explain;
    ``p_value`` is that of no relation, multiplied by the number of candidates tried; ``share`` is
    the inferred share of group 1 among all of the prompt's images.
    """

    found: bool
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
    models: dict[str, Linear]
    chosen: Candidate
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
    """Candidates with their mean explained variance over prompts, best first.

    The mean matters: subtypes of one prompt's own content can explain more within that prompt
    than the bias does, but not in the others.
    """
    names = np.unique(prompt)
    rows = [prompt == name for name in names]
    scored = [
        (
            candidate,
            float(
                np.mean(
                    [explained_variance(candidate.member[r] * 1.0, score[r], min_share) for r in rows]
                )
            ),
        )
        for candidate in candidates
    ]
    return sorted(scored, key=lambda pair: -pair[1])


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
    """The default estimator: both kinds of candidates, ranked by the max-step objective, refined.

    ``score`` (excess at high noise, mean over draws and levels) is known for the rows ``scored``
    of the data, ``features`` and ``prompt`` for all; the refined model carries the groups over.
    """
    projection = Projection.fit(features)
    components = projection(features)
    own, names = components[scored], prompt[scored]
    candidates = list(cluster_candidates(own, names, seed))
    candidates += split_candidates(score, own, names, min_share, seed)
    ranked = rank(candidates, score, names, min_share)
    best = ranked[0][0]
    against, models = refine(best, components, score, scored, prompt, seed)
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
    shown = tuple((candidate.name, value) for candidate, value in ranked[:10])
    raw = {name: model.behind(projection) for name, model in models.items()}
    return Grouping(against, verdicts, raw, best, shown)


def refine(
    candidate: Candidate,
    components: Float[np.ndarray, "sample component"],
    score: Float[np.ndarray, " scored"],
    scored: np.ndarray,
    prompt: np.ndarray,
    seed: int,
) -> tuple[Float[np.ndarray, " sample"], dict[str, Linear]]:
    """q_i(1) for all images from a linear model on the features, and the model of each prompt.

    Scored images get the probability from a model that was fitted without them. Within each
    prompt the groups are turned so that group 1 is the one that costs the model more.
    """
    against = np.zeros(len(components))
    models: dict[str, Linear] = {}
    for rows in _scopes(candidate.scope, prompt):
        inside = rows[scored]
        known, member = scored[inside], candidate.member[inside]
        if len(np.unique(member)) < 2:
            model = Linear.constant(float(member.mean()), components.shape[1])
        else:
            model = Linear.fit(components[known], member)
        against[rows] = model(components[rows])
        if len(np.unique(member)) == 2:
            against[known] = cross_fit(components[known], member, seed)
        models |= {str(name): model for name in np.unique(prompt[rows])}
    for name in models:
        inside = prompt[scored] == name
        if inside.sum() > 2 and np.cov(against[scored][inside], score[inside])[0, 1] < 0:
            against[prompt == name] = 1 - against[prompt == name]
            models[name] = models[name].flipped()
    return against, models


def _scopes(scope: Scope, prompt: np.ndarray) -> list[np.ndarray]:
    if scope == "pooled":
        return [np.ones(len(prompt), bool)]
    return [prompt == name for name in np.unique(prompt)]


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
    if inside.sum() < 10 or np.ptp(member) == 0 or np.ptp(values) == 0:
        return Verdict(False, 0.0, 1.0, share, "too few images or no groups to test")
    explained = explained_variance(member, values, min_share)
    p_value = min(1.0, candidates * float(stats.pearsonr(member, values).pvalue))
    if p_value > false_alarm or explained < LEAST_EXPLAINED:
        note = "nothing to balance: the groups do not differ in the score"
    elif abs(share - 0.5) <= BALANCED_WITHIN:
        note = "nothing to balance: the groups are even already"
    else:
        return Verdict(True, explained, p_value, share, "")
    return Verdict(False, explained, p_value, share, note)


def agreement(
    first: Float[np.ndarray, " sample"], second: Float[np.ndarray, " sample"], prompt: np.ndarray
) -> float:
    """Share of images that two groupings put in the same group, averaged over prompts (0.5 = chance)."""
    same = (first > 0.5) == (second > 0.5)
    return float(np.mean([same[prompt == name].mean() for name in np.unique(prompt)]))
