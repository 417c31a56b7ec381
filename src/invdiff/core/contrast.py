"""Groups from what each image costs under *every* prompt: the default where there are several.

The excess compares an image's own prompt with none. The same image under the other prompts says
more: up to what is the same for all prompts, its losses are -log p(y | image) at that noise level,
and an attribute of which prompt y has the share pi_y shifts them by -logit pi_y, for all y at once.
So a skewed attribute is one direction in the space of these losses, shared by the images of all
prompts, whatever shape it has in the features: photographs of places are no cluster there, and yet
all of them look like the prompts that have places. And what is no skew does not shift them so.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float
from scipy.special import logit

from invdiff.core.candidates import Candidate, Projection, centre
from invdiff.core.grouping import (
    Grouping,
    GroupModels,
    apply,
    mean_explained,
    orient,
    refined_models,
    settled,
    tie,
)
from invdiff.core.settle import GroupModel, settle
from invdiff.core.verdict import Verdict, judge

Losses = Float[np.ndarray, "scored condition level"]
Space = Float[np.ndarray, "scored contrast"]

QUANTILES = (0.15, 0.5, 0.85)  # where a direction is cut to begin with
SETTLED = 4  # candidates that are carried to the features
LEAST_IN_LINE = 0.9
"""Least cosine between the shift of the losses and the log-odds of the shares, at every level.

Of the true groups of scenes 0.98 to 1.00. Nothing that the search settles to on balanced faces, on
a skew without a tie or on four groups of faces has that and a tie besides.
"""
LEAST_TIE = 0.05
NAME = "contrast"
NOTHING = "nothing to balance: no groups are more usual under one prompt than under another"
ALIKE = 0.9  # 1 for the same groups, 0 for independent ones
MOSTLY = 0.75  # share of the prompts that must have both groups
MIXED = 0.03  # a prompt with a smaller share of either group says nothing of their odds


@dataclass(frozen=True)
class Contrasts:
    """Losses of the images ``rows`` under each of some prompts, ``names``, at high noise levels.

    Means over noise draws, in v space. ``rows`` are ascending numbers of scored images; their own
    prompts need not be among the names.
    """

    losses: Losses
    names: tuple[str, ...]
    rows: np.ndarray

    def spaces(self) -> Iterator[tuple[str, Space]]:
        """The losses less their mean over the prompts, of unit variance: by level, and together.

        A mixture finds groups in one that it loses in another, so all of them are searched.
        """
        conditions, levels = self.losses.shape[1:]
        basis = np.linalg.qr(np.eye(conditions) - 1 / conditions)[0][:, : conditions - 1]
        values = np.einsum("ncl,ck->nlk", self._relative(), basis)
        values /= values.std(0) + 1e-12
        for level in range(levels if levels > 1 else 0):
            yield f"level {level + 1}", values[:, level]
        yield "all levels", values.reshape(len(values), -1)

    def in_line(self, q: Float[np.ndarray, " scored"], prompt: np.ndarray) -> float:
        """How far the shift between the groups is the one that their shares imply, -1 to 1.

        The least cosine over the levels, of the prompts in which both groups are; 0 where fewer
        than two are, or where their shares are alike (:data:`LEAST_TIE`).
        """
        known = [k for k, name in enumerate(self.names) if (prompt == name).any()]
        both = np.isin(np.array(self.names)[known], _mixed(q, prompt))
        mixed = np.array(known)[both]
        names = [self.names[k] for k in mixed]
        inside = np.isin(prompt, names)
        if len(mixed) < max(2, MOSTLY * len(known)) or tie(q[inside], prompt[inside]) < LEAST_TIE:
            return 0.0
        odds = logit(np.array([q[prompt == name].mean() for name in names]))
        odds -= odds.mean()
        apart = centre(q[:, None], prompt)[:, 0]
        relative = self._relative()[:, mixed]
        shift = np.einsum("n,ncl->cl", apart, relative)
        shift -= shift.mean(0)
        length = np.linalg.norm(odds) * np.linalg.norm(shift, axis=0) + 1e-30
        return float((-(odds @ shift) / length).min())

    def towards(
        self, q: Float[np.ndarray, " row"], prompt: np.ndarray
    ) -> Float[np.ndarray, " row"]:
        """How far each image's losses lean to group 0: their sum over prompts, by the log-odds.

        Up to scale the log-likelihood ratio that the prompts' shares of the groups give it.
        """
        share = [q[prompt == name].mean() if (prompt == name).any() else 0.5 for name in self.names]
        odds = logit(np.clip(share, MIXED, 1 - MIXED))
        return np.einsum("c,ncl->n", odds - odds.mean(), self._relative())

    def _relative(self) -> Losses:
        return self.losses - self.losses.mean(1, keepdims=True)

    def starts(self, prompt: np.ndarray) -> Iterator[tuple[str, Float[np.ndarray, " row"]]]:
        """Directions to begin with: principal components within prompts, and sides of prompts."""
        relative = self._relative()
        sides = _sides(len(self.names))
        for level in range(relative.shape[2]):
            values = centre(relative[:, :, level], prompt)
            found = np.linalg.svd(values, full_matrices=False)[0]
            for k in range(len(self.names) - 1):
                yield f"contrast {k + 1} of level {level + 1}", found[:, k]
            for side in sides:
                one = ", ".join(
                    repr(name) for name, sign in zip(self.names, side, strict=True) if sign > 0
                )
                yield f"{one} against the rest at level {level + 1}", values @ side


def worth(
    q: Float[np.ndarray, " sample"],
    score: Float[np.ndarray, " sample"],
    prompt: np.ndarray,
    min_share: float,
) -> float:
    """:func:`invdiff.core.grouping.objective`, the tie among prompts in which both groups are.

    A group that one prompt does not have at all is tied to the others by that alone; it may be no
    more than that prompt's own content.
    """
    inside = np.isin(prompt, _mixed(q, prompt))
    if not inside.any():
        return 0.0
    return mean_explained(q, score, prompt, min_share) * tie(q[inside], prompt[inside])


def _mixed(q: Float[np.ndarray, " sample"], prompt: np.ndarray) -> np.ndarray:
    """The prompts that have both groups."""
    names = np.unique(prompt)
    share = np.array([q[prompt == name].mean() for name in names])
    return names[(share >= MIXED) & (share <= 1 - MIXED)]


def _sides(count: int) -> list[Float[np.ndarray, " prompt"]]:
    """Prompts on two sides, as contrasts: every way for up to 5, else each against the rest."""
    if count > 5:
        return list(np.eye(count) - 1 / count)
    ways = [np.array((1.0, *rest)) for rest in product((1.0, -1.0), repeat=count - 1)]
    return [way - way.mean() for way in ways if np.ptp(way) > 0]


def contrasted(
    contrasts: Callable[[], Contrasts],
    score: Float[np.ndarray, " scored"],
    features: Float[np.ndarray, "sample feature"],
    scored: np.ndarray,
    prompt: np.ndarray,
    *,
    min_share: float,
    false_alarm: float,
    wanted: float = 0.5,
) -> Grouping:
    """The groups in the contrasts that explain the excess best, carried to the features.

    Two groups with one covariance and a shift that is the same under every prompt
    (:func:`invdiff.core.settle.settle`), which settle once more in the features of all images.
    Only groups whose shift goes with their shares count (:meth:`Contrasts.in_line`), before that
    and after. ``score`` is the excess of the images ``scored``, which ranks the groups and says
    which of them is against the model; what is tested for each prompt is whether its groups lean
    apart (:meth:`Contrasts.towards`). For the other arguments see
    :func:`invdiff.core.grouping.semantic`. With fewer than two prompts nothing is found.
    """
    if len(np.unique(prompt[scored])) < 2:
        return no_groups(features, prompt, "nothing to balance: one prompt has no contrasts")
    known, names = contrasts(), prompt[scored]
    own = score[np.searchsorted(scored, known.rows)]
    candidates = _candidates(known, own, prompt[known.rows], min_share)
    found: list[tuple[str, float, GroupModels]] = []
    for candidate, _ in candidates[:SETTLED]:
        models = _carried(candidate, features, known.rows, prompt)
        member = apply(models, features, prompt)
        if known.in_line(member[known.rows], prompt[known.rows]) >= LEAST_IN_LINE:
            value = worth(member[scored], score, names, min_share)
            found.append((candidate.name, value, models))
    if not found:
        return no_groups(features, prompt, NOTHING)
    found.sort(key=lambda one: -one[1])
    alike = apply(found[0][2], features, prompt)[known.rows]  # the same group under every prompt
    lean = known.towards(alike, prompt[known.rows])
    models = orient(found[0][2], features[scored], score, names)
    against = apply(models, features, prompt)
    verdicts = {
        str(name): judge(
            against,
            lean,
            known.rows,
            prompt == name,
            min_share=min_share,
            false_alarm=false_alarm,
            candidates=len(candidates),
            wanted=wanted,
        )
        for name in np.unique(prompt)
    }
    ranking = tuple((name, value) for name, value, _ in found)
    return Grouping(against, verdicts, models, found[0][0], ranking, NAME)


def _carried(
    candidate: Candidate,
    features: Float[np.ndarray, "sample feature"],
    rows: np.ndarray,
    prompt: np.ndarray,
) -> GroupModels:
    """The groups of some images in the features of all."""
    projection = Projection.fit(features)
    components = projection(features)
    q = settled(candidate, components, rows, prompt)
    return refined_models(q, components, projection, prompt)


def no_groups(
    features: Float[np.ndarray, "sample feature"], prompt: np.ndarray, note: str
) -> Grouping:
    """All images in group 0, under every prompt for the same reason."""
    verdicts, models = {}, {}
    for name in map(str, np.unique(prompt)):
        verdicts[name] = Verdict(False, False, 0.0, 1.0, 0.0, note)
        models[name] = GroupModel.supervised(features[:0], np.zeros(0))
    return Grouping(np.zeros(len(prompt)), verdicts, models, "no groups", (), NAME)


def _candidates(
    contrasts: Contrasts, score: Float[np.ndarray, " row"], prompt: np.ndarray, min_share: float
) -> list[tuple[Candidate, float]]:
    """What the starts settle to, with its objective, best first; in line with its shares.

    Of groups that agree on nearly all images only the best is kept.
    """
    starts = list(contrasts.starts(prompt))
    found: dict[bytes, tuple[Candidate, float]] = {}
    for where, space in contrasts.spaces():
        for name, values in starts:
            for quantile in QUANTILES:
                q, _ = settle(space, (values > np.quantile(values, quantile)) * 1.0, prompt)
                member = q > 0.5
                key = min(member.tobytes(), (~member).tobytes())
                if key not in found:
                    line = contrasts.in_line(q, prompt) >= LEAST_IN_LINE
                    value = worth(q, score, prompt, min_share) if line else -1.0
                    found[key] = Candidate(f"{name}, settled in {where}", member), value
    kept: list[tuple[Candidate, float]] = []
    for candidate, value in sorted(found.values(), key=lambda pair: -pair[1]):
        if value < 0:
            break
        same = [abs(2 * (candidate.member == other.member).mean() - 1) for other, _ in kept]
        if max(same, default=0.0) < ALIKE:
            kept.append((candidate, value))
    return kept
