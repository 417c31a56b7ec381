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
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from invdiff.core.discovery.candidates import Candidate
from invdiff.core.discovery.grouping import Grouping, GroupModels, apply, orient
from invdiff.core.discovery.linear_groups import fit_linear_groups, linear_models
from invdiff.core.discovery.objective import max_step_objective
from invdiff.core.discovery.prompt_contrasts import Contrasts
from invdiff.core.discovery.refinement import refined_models, shared_shift_memberships
from invdiff.core.discovery.self_training import self_trained
from invdiff.core.discovery.shared_shift import fit_shared_shift_mixture
from invdiff.core.discovery.verdict import Verdict, judge_prompts
from invdiff.core.groups.features import LEADING, Projection
from invdiff.core.groups.two_groups import GroupModel

QUANTILES = (0.15, 0.5, 0.85)  # where a direction is cut to begin with
CARRIED_ON = 4  # candidates that are carried to the features
FITTED = "the line that explains the excess best"
SELF_TRAINED = f"{FITTED}, self-trained on all images"
SELF_TRAINED_MIXTURE = f"{SELF_TRAINED}, then a mixture with one shift for all prompts"
LEAST_IN_LINE = 0.93
"""Least cosine between the shift of the losses and the log-odds of the shares, at every level.

Of the true groups of all sets 0.96 to 1.00. Of what is carried to the features of balanced faces,
of a skew without a tie and of four groups of faces at most 0.88 with a tie, before it is taught.
"""
NEARLY = 0.88
"""Least of a line that is taught: it was found in few images, and teaching mends that."""
NAME = "contrast"
NOTHING = "nothing to balance: no groups are more usual under one prompt than under another"
ALIKE = 0.9  # 1 for the same groups, 0 for independent ones


class Judged(NamedTuple):
    """Groups by name, how far they are in line, their worth, and what they are ranked by."""

    name: str
    models: GroupModels
    line: float
    worth: float
    rank: float


def contrast_estimator(
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
    (:func:`fit_shared_shift_mixture`), which settle once more in the features of all images; and
    the line along which the objective of the max step is largest (:mod:`linear_groups`).
    That was found in the images compared alone, so all images teach it what its groups look like
    (:mod:`discovery.self_training`), and the mixture next to them settles as well. Only groups
    whose shift goes with their shares count (:meth:`log_odds_alignment`). ``score`` is the excess
    of the images ``scored``, which ranks the groups and says which is against the model; what is
    tested for each prompt is whether its groups lean apart (:meth:`Contrasts.towards`). For the
    other arguments see :func:`semantic.semantic`. With fewer than two prompts nothing
    is found.
    """
    if len(np.unique(prompt[scored])) < 2:
        return no_groups(features, prompt, "nothing to balance: one prompt has no contrasts")
    known, names = contrasts(), prompt[scored]
    found, tried = _Search(known, score, features, scored, prompt, min_share).found()
    if not found:
        return no_groups(features, prompt, NOTHING)
    chosen, models = found[0].name, found[0].models
    alike = apply(models, features, prompt)[known.rows]  # the same group under every prompt
    lean = known.towards(alike, prompt[known.rows])
    models = orient(models, features[scored], score, names)
    against = apply(models, features, prompt)
    verdicts = judge_prompts(
        against,
        lean,
        known.rows,
        prompt,
        min_share=min_share,
        false_alarm=false_alarm,
        candidates=tried,
        wanted=wanted,
    )
    ranking = tuple((one.name, one.worth) for one in found)
    return Grouping(against, verdicts, models, chosen, ranking, NAME)


@dataclass(frozen=True)
class _Search:
    """What groups are searched in, and judged by."""

    known: Contrasts
    score: Float[np.ndarray, " scored"]
    features: Float[np.ndarray, "sample feature"]
    scored: np.ndarray
    prompt: np.ndarray
    min_share: float

    def found(self) -> tuple[list[Judged], int]:
        """The groups in line, best first, and how many were tried."""
        projection = Projection.fit(self.features)
        components = projection(self.features)
        candidates = [self.judged(*one) for one in self._carried_all(projection, components)]
        *mixtures, fitted = candidates
        found = [one for one in mixtures if one.line >= LEAST_IN_LINE]
        if fitted.line >= NEARLY:
            member = apply(fitted.models, self.features, self.prompt)
            steps = _taught(member, projection, components, self.features, self.prompt)
            found += _best_of_line(fitted, *(self.judged(*step) for step in steps))
        return sorted(found, key=lambda one: -one.rank), len(candidates)

    def judged(self, name: str, models: GroupModels) -> Judged:
        """How far groups are in line, and what they are worth."""
        member, rows = apply(models, self.features, self.prompt), self.known.rows
        line = self.known.log_odds_alignment(member[rows], self.prompt[rows])
        scored = self.scored
        value = max_step_objective(member[scored], self.score, self.prompt[scored], self.min_share)
        return Judged(name, models, line, value, value)

    def _carried_all(
        self, projection: Projection, components: Float[np.ndarray, "sample component"]
    ) -> Iterator[tuple[str, GroupModels]]:
        """The groups of the images compared in the features of all: names and models, a line last.

        Mixtures settle there once more. The line does not: it needs no gap, and where there is
        none in the features a mixture would leave it.
        """
        known, prompt, rows = self.known, self.prompt, self.known.rows
        own = self.score[np.searchsorted(self.scored, rows)]
        for candidate, _ in _candidates(known, own, prompt[rows], self.min_share)[:CARRIED_ON]:
            q = shared_shift_memberships(candidate, components, rows, prompt)
            yield candidate.name, refined_models(q, components, projection, prompt)
        *_, (_, space) = known.spaces()
        q = fit_linear_groups(space, own, prompt[rows])(space, prompt[rows])
        leading = Projection(projection.mean, projection.axes[:, :LEADING])
        yield FITTED, linear_models(q, components[:, :LEADING], leading, rows, prompt)


def _best_of_line(fitted: Judged, taught: Judged, mixture: Judged) -> list[Judged]:
    """The line or what becomes of it (:func:`_taught`), at most one of them.

    The mixture, where it is more in line than the taught line, comes before all others: these
    settle from cuts at quantiles, and end at groups as much in line that are mixed where prompts
    name the attribute. A taught line is ranked by the worth that the line had before, and needs one
    that was in line: teaching raises both of wrong groups too.
    """
    if mixture.line >= taught.line >= LEAST_IN_LINE:
        return [mixture._replace(rank=np.inf)]
    if fitted.line < LEAST_IN_LINE:
        return []
    astray = taught.line < LEAST_IN_LINE
    return [fitted if astray else taught._replace(rank=fitted.worth)]


def _taught(
    member: Float[np.ndarray, " sample"],
    projection: Projection,
    components: Float[np.ndarray, "sample component"],
    features: Float[np.ndarray, "sample feature"],
    prompt: np.ndarray,
) -> Iterator[tuple[str, GroupModels]]:
    """What becomes of a line's groups when all images teach it, and the mixture next to that."""
    learnt = self_trained(components, member > 0.5) * 1.0
    models = linear_models(learnt, components, projection, np.arange(len(prompt)), prompt)
    yield SELF_TRAINED, models
    q, _ = fit_shared_shift_mixture(
        components[:, :LEADING], apply(models, features, prompt), prompt
    )
    yield SELF_TRAINED_MIXTURE, refined_models(q, components, projection, prompt)


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
                q, _ = fit_shared_shift_mixture(
                    space, (values > np.quantile(values, quantile)) * 1.0, prompt
                )
                member = q > 0.5
                key = min(member.tobytes(), (~member).tobytes())
                if key not in found:
                    line = contrasts.log_odds_alignment(q, prompt) >= LEAST_IN_LINE
                    value = max_step_objective(q, score, prompt, min_share) if line else -1.0
                    found[key] = (
                        Candidate(f"{name}, shared-shift mixture in {where}", member),
                        value,
                    )
    kept: list[tuple[Candidate, float]] = []
    for candidate, value in sorted(found.values(), key=lambda pair: -pair[1]):
        if value < 0:
            break
        same = [abs(2 * (candidate.member == other.member).mean() - 1) for other, _ in kept]
        if max(same, default=0.0) < ALIKE:
            kept.append((candidate, value))
    return kept
