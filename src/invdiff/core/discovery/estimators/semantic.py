"""Groups from clusters of the features and splits of the score, refined and ranked."""

import numpy as np
from jaxtyping import Float

from invdiff.core.discovery.candidates import cluster_candidates, split_candidates
from invdiff.core.discovery.grouping import Grouping, GroupModels, apply, orient
from invdiff.core.discovery.objective import objective, rank
from invdiff.core.discovery.refinement import refined_models, shared_shift_memberships
from invdiff.core.discovery.verdict import judge_prompts
from invdiff.core.groups.features import Projection

CARRIED_ON = 12


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
    for candidate, _ in rank(candidates, score, names, min_share)[:CARRIED_ON]:
        q = shared_shift_memberships(candidate, components, scored, prompt)
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
