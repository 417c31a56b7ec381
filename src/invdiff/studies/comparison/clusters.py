"""Groups from the features alone: clusters that are tied to the prompt, ordered by their score.

Nothing but the features says which images belong together; the score says which of the clusters go
with what the model learnt for a prompt and which against it, and whether they do at all.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.special import entr

from invdiff.core.discovery.candidates import CLUSTER_COUNTS
from invdiff.core.discovery.grouping import Grouping
from invdiff.core.discovery.verdict import BALANCED_WITHIN, FEWEST, LEAST_EXPLAINED, Verdict, met
from invdiff.core.groups.features import CLUSTERED, Projection
from invdiff.core.groups.memberships import Mix, hard, off_by, present, within
from invdiff.core.groups.several_groups import NEVER, MultiGroupModel
from invdiff.core.groups.two_groups import SMALLEST, GroupModel
from invdiff.studies.comparison.shared_clusters import Clusters, best

LEAST_CLUSTER_INFORMATION = 0.05  # nats, as for the groups of the contrasts
LEAST_COMMON = 0.03  # of a prompt's images: groups with less are not counted as there
RANKED_BY = "share of the score's variance explained; in the order of the ICL"


def clusters(
    score: Float[np.ndarray, " scored"],
    features: Float[np.ndarray, "sample feature"],
    scored: np.ndarray,
    prompt: np.ndarray,
    *,
    min_share: float,
    false_alarm: float,
    seed: int,
    wanted: Callable[[int], Mix],
    most: int,
) -> Grouping:
    """Clusters as groups, in each prompt from the lowest mean score to the highest.

    ``score`` is known for the rows ``scored``; it orders and tests the groups, and makes none.
    ``wanted`` gives the mix of so many groups that needs no balancing; there are ``most`` at most.
    A cluster with less than ``min_share`` of a prompt's images is absent there.
    """
    projection = Projection.fit(features)
    names, codes = np.unique(prompt, return_inverse=True)
    counts = range(CLUSTER_COUNTS.start, min(CLUSTER_COUNTS.stop, most + 1))
    found = best(projection(features)[:, :CLUSTERED], codes, counts, min_share, seed)
    order = sorted(found, key=lambda count: found[count].criterion)
    ranking = tuple(
        (_told(found, count), _mean_explained(found[count].q[scored], score, codes[scored]))
        for count in order
    )
    chosen, doubt = found[order[0]], ""
    if order[0] == 1:
        doubt = "nothing to balance: the features have no clusters"
    elif not is_tied(chosen.q, codes, false_alarm):
        doubt = "nothing to balance: no cluster is tied to the prompt"
    member, models, verdicts = np.zeros((len(prompt), max(2, order[0]))), {}, {}
    for code, name in enumerate(names.tolist()):
        rows, inside = codes == code, codes[scored] == code
        if order[0] == 1:
            member[rows, 0] = 1.0
            models[name] = MultiGroupModel.supervised(features[rows], member[rows])
        else:
            ranked = ranks(chosen, code, chosen.q[scored][inside], score[inside], min_share)
            models[name] = cluster_model(chosen, code, projection, ranked, min_share)
            member[rows] = models[name](features[rows])
        own = member[scored][inside]
        verdicts[name] = (
            _verdict(False, False, 0.0, 1.0, member[rows].mean(0), doubt)
            if doubt
            else judge_clusters(
                member[rows], own, score[inside], false_alarm=false_alarm, wanted=wanted(order[0])
            )
        )
    name = ranking[0][0]
    if order[0] > 2:
        return Grouping(member, verdicts, models, name, ranking, "excess", ranked_by=RANKED_BY)
    two = {text: as_two(model) for text, model in models.items()}
    against = member[:, 1].copy()
    return Grouping(against, verdicts, two, name, ranking, "excess", ranked_by=RANKED_BY)


def _told(found: dict[int, Clusters], count: int) -> str:
    """The name of a number of clusters, with its ICL less that of one."""
    gain = found[count].criterion - found[1].criterion
    return f"{count} {'clusters' if count > 1 else 'cluster'}, ICL {gain:+.0f}"


def cluster_mutual_information(q: Float[np.ndarray, "sample group"], prompt: np.ndarray) -> float:
    """How far the shares of the groups differ between prompts, in nats; 0 for one prompt.

    For two prompts the mutual information of group and prompt, among the groups that both have:
    what one of them lacks altogether may be the content of the other. The mean over all pairs.
    """
    shares = [q[prompt == name].mean(0) for name in np.unique(prompt)]
    found = [_divergence(*_common(one, other)) for one, other in combinations(shares, 2)]
    return float(np.mean(found)) if found else 0.0


def _common(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What two prompts have of the groups that both have."""
    both = np.minimum(one / one.sum(), other / other.sum()) >= LEAST_COMMON
    return one[both], other[both]


def _divergence(one: np.ndarray, other: np.ndarray) -> float:
    """Of Jensen and Shannon, of what adds up to 1 when divided by its sum."""
    if len(one) < 2:
        return 0.0
    shares = np.stack([one / one.sum(), other / other.sum()])
    return float(entr(shares.mean(0)).sum() - entr(shares).sum(1).mean())


def is_tied(q: Float[np.ndarray, "sample group"], prompt: np.ndarray, false_alarm: float) -> bool:
    """Whether the mutual information is no small one, and that of some two prompts above chance.

    A G test of their table of groups, corrected for the number of pairs. A single prompt has
    nothing to be tied to: there the score alone decides.
    """
    group, names = q.argmax(1), np.unique(prompt)
    if len(names) == 1:
        return True
    sizes = [np.bincount(group[prompt == name], minlength=q.shape[1]) for name in names]
    tables = [np.stack(_common(one, other)) for one, other in combinations(sizes, 2)]
    chances = [
        stats.chi2_contingency(table, lambda_="log-likelihood").pvalue
        for table in tables
        if table.shape[1] > 1
    ]
    by_chance = len(tables) * min(chances, default=1.0)
    return cluster_mutual_information(q, prompt) >= LEAST_CLUSTER_INFORMATION and bool(
        by_chance <= false_alarm
    )


def ranks(
    fitted: Clusters,
    code: int,
    q: Float[np.ndarray, "scored group"],
    score: Float[np.ndarray, " scored"],
    min_share: float,
) -> list[int]:
    """The clusters of prompt ``code`` by the mean score of their images; absent ones come last."""
    mass = q.sum(0)
    mean = np.where(mass >= 1, q.T @ score / mass.clip(1), np.inf)
    absent = fitted.shares[code] < min_share
    return [int(group) for group in np.lexsort((mean, absent))]


def cluster_model(
    fitted: Clusters, code: int, projection: Projection, order: list[int], min_share: float
) -> MultiGroupModel:
    """The clusters of prompt ``code`` as a model on raw features, in the given order.

    With one covariance the log ratio of two Gaussians is linear.
    """
    shares = fitted.shares[code]
    means = fitted.means[code][order]
    told = means @ fitted.precision
    axes = projection.axes[:, : means.shape[1]]
    weight = axes @ (told[1:] - told[:1]).T
    half = 0.5 * np.einsum("gc,gc->g", told, means)
    bias = half[0] - half[1:] - projection.mean @ weight
    gone = shares[order][1:] < min_share
    weight[:, gone], bias[gone] = 0.0, NEVER
    prior = np.log(shares[order].clip(SMALLEST))
    return MultiGroupModel(weight, bias, prior[1:] - prior[0])


def as_two(model: MultiGroupModel) -> GroupModel:
    """The same model of two groups, as those of two are stored."""
    return GroupModel(model.weight[:, 0], (float(model.bias[0]), 1.0, 0.0), float(model.prior[0]))


def explained(q: Float[np.ndarray, "sample group"], score: Float[np.ndarray, " sample"]) -> float:
    """Var_e R_e(q), weighted by group mass, over Var_i r_i: for two groups as in the verdict."""
    there = q.sum(0) >= 1
    if there.sum() < 2 or score.var() == 0:
        return 0.0
    mass = q[:, there].sum(0)
    mean = score @ q[:, there] / mass
    return float(mass @ (mean - score.mean()) ** 2 / len(score) / score.var())


def _mean_explained(q: np.ndarray, score: np.ndarray, prompt: np.ndarray) -> float:
    rows = [prompt == name for name in np.unique(prompt)]
    return float(np.mean([explained(q[inside], score[inside]) for inside in rows]))


def judge_clusters(
    member: Float[np.ndarray, "sample group"],
    scored: Float[np.ndarray, "scored group"],
    score: Float[np.ndarray, " scored"],
    *,
    false_alarm: float,
    wanted: Mix,
) -> Verdict:
    """Is there anything to balance in a prompt? As :func:`verdict.judge_clusters` has it.

    The groups must differ in the score (analysis of variance) by more than a tiny part, and their
    shares must not be the ``wanted`` ones.
    """
    shares, group = member.mean(0), hard(scored)
    parts = [score[group == one] for one in np.unique(group)]
    parts = [part for part in parts if len(part) > 1]
    if len(score) < FEWEST or len(parts) < 2:
        return _verdict(False, False, 0.0, 1.0, shares, "too few images or no groups to test")
    between, p_value = explained(scored, score), float(stats.f_oneway(*parts).pvalue)
    if p_value > false_alarm or between < LEAST_EXPLAINED:
        note = "nothing to balance: the groups do not differ in the score"
        return _verdict(False, False, between, p_value, shares, note)
    there = present(member)
    aim = within(wanted, there)
    if abs(off_by(shares, aim)).max() <= BALANCED_WITHIN:
        note = f"nothing to balance: {met(aim[there])}"
        return _verdict(False, True, between, p_value, shares, note)
    return _verdict(True, True, between, p_value, shares, "")


def _verdict(
    found: bool, monitored: bool, between: float, p_value: float, shares: np.ndarray, note: str
) -> Verdict:
    several = tuple(shares.tolist()) if len(shares) > 2 else ()
    rest = float(1 - shares[0]) if several else float(shares[1])
    return Verdict(found, monitored, between, p_value, rest, note, several)
