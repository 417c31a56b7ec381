"""The max step: from scores and features to inferred groups, and whether there is anything at all.

Group 0 goes *with* what the model has learnt for the prompt, group 1 *against* it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from scipy.special import logit

from invdiff.core.discovery.attributes import InferredAttribute, find_attributes, mixed
from invdiff.core.discovery.crossing import cross
from invdiff.core.discovery.evidence import Contrasts
from invdiff.core.discovery.sources import KNOWN
from invdiff.core.discovery.verdict import FEWEST, Rules, Verdict, judge_crossed, judge_prompt
from invdiff.core.groups.memberships import Membership
from invdiff.core.groups.several_groups import MultiGroupModel
from invdiff.core.groups.two_groups import SMALLEST, GroupModel

RANKED_BY = (
    "share of the costs explained, times the mutual information with the prompt in nats, times the "
    "alignment with the log-odds of the shares"
)
RANKED_BY_CLEARNESS = "negentropy of the two groups in the features, in nats a picture"
LEAST_OF_LOSS = 0.1
"""Share of the loss's variance to explain under every prompt, where nothing is tied to them."""
RAREST = 0.2
"""Largest share of the rarer group there: one of five even classes costs more than the rest too."""
CROSSED = "+"
"""Between the ids of attributes that are balanced together."""
LEAST_PROMPTS = 2  # that must have both values: what one prompt alone has is its content

GroupModels = dict[str, GroupModel]


@dataclass(frozen=True)
class Grouping:
    """Inferred groups: ``against[i]`` is q_i(1), the probability that image i is in group 1.

    Of more than two groups it has a row of q_i(0) to q_i(K-1) for each image; ``names`` says what
    each group of a prompt is where they are labels that were given. ``models`` gives the same for
    new images of a prompt, from their raw features. ``score`` names what the groups were read off,
    "contrast", "excess" or "loss"; empty for groups that were given. ``ranked_by`` says what the
    numbers of the ``ranking`` are. ``attributes`` are all that were found, with q of all images;
    ``chosen`` is the id of the one that the groups are, or several joined by "+"; ``stability`` is
    the share of images that two halves of the data put into the same group.
    """

    against: Membership
    verdicts: dict[str, Verdict]
    models: Mapping[str, GroupModel | MultiGroupModel]
    chosen: str
    ranking: tuple[tuple[str, float], ...]
    score: str = ""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranked_by: str = RANKED_BY
    attributes: tuple[InferredAttribute, ...] = ()
    stability: float | None = None


def infer_groups(
    excess: Float[np.ndarray, " scored"],
    loss: Float[np.ndarray, " scored"],
    contrasts: Callable[[], Contrasts] | None,
    features: Float[np.ndarray, "sample feature"],
    scored: np.ndarray,
    prompt: np.ndarray,
    *,
    min_share: float,
    false_alarm: float,
    seed: int,
    wanted: float = 0.5,
    most: int = 1,
) -> Grouping:
    """Groups by the first attribute that is clear and tied to the prompts, or by the loss.

    A skew that is the same under every prompt moves no prompt against another, so it is not tied.
    It is left in the loss, together with everything else that makes a picture hard to denoise: of
    the clear attributes the loss is asked second. Without ``contrasts`` the excess of a picture
    under its own prompt takes their place. A single prompt has nothing to compare with: loss and
    excess are the costs then. Of several clear attributes that are tied the first ``most`` are
    balanced together: their crossed values are the groups.
    """
    rules = Rules(min_share, false_alarm, wanted)
    searched, counts = np.unique(prompt[scored], return_counts=True)
    searched = searched[counts >= FEWEST]
    inside = np.isin(prompt, searched)
    data = _Data(features, prompt, scored, excess, inside, seed)
    by_loss = replace(data, score=loss)
    if len(searched) == 0:
        return data.grouping((), None, rules, "", RANKED_BY)
    if len(searched) > 1:
        name = "excess" if contrasts is None else "contrast"
        given = data.own_columns(searched) if contrasts is None else contrasts()
        found = data.attributes(given)
        clear = [one for one in found if one.tied and one.certain(false_alarm)]
        several = [one for one in clear if mixed(one.share, min_share).sum() >= LEAST_PROMPTS]
        if len(several[:most]) > 1:
            return data.crossed(found, several[:most], rules, name)
        if several:
            return data.grouping(found, several[0], rules, name, RANKED_BY)
        alike = data.same_skew(found, loss, false_alarm)
        if not alike:  # what moves no prompt against another may show in the loss alone
            by_cost = data.attributes(Contrasts(loss[:, None, None], ("",), scored))
            alike = data.same_skew(by_cost, loss, false_alarm)[:1]
            found = [one for one in found if not any(_same(one, new) for new in alike)] + alike
        if alike:
            return by_loss.grouping(found, alike[0], rules, "loss", RANKED_BY_CLEARNESS)
        return data.grouping(found, None, rules, name, RANKED_BY)
    both = np.stack([_unit(loss), _unit(excess)], 1)[:, None, :]
    found = data.attributes(Contrasts(both, ("",), scored))
    clear = [one for one in found if one.certain(false_alarm) and mixed(one.share, min_share).any()]
    first = clear[0] if clear else None
    return by_loss.grouping(found, first, rules, "loss", RANKED_BY_CLEARNESS)


def _same(one: InferredAttribute, other: InferredAttribute) -> bool:
    """Whether two searches found one attribute, whichever way round."""
    return abs(float(np.corrcoef(one.q, other.q)[0, 1])) >= KNOWN


def _unit(values: np.ndarray) -> np.ndarray:
    return values / (values.std() + 1e-12)


@dataclass(frozen=True)
class _Data:
    """All images, which of them are of prompts that are searched, and what the scored ones cost.

    ``score`` says which group goes against the model: the one whose mean is larger.
    """

    features: Float[np.ndarray, "sample feature"]
    prompt: np.ndarray
    scored: np.ndarray
    score: Float[np.ndarray, " scored"]
    inside: np.ndarray
    seed: int

    def attributes(self, contrasts: Contrasts) -> list[InferredAttribute]:
        """Those of the searched prompts, by costs of images of them; q is of all images."""
        place = np.cumsum(self.inside) - 1
        known = self.inside[contrasts.rows]
        there = Contrasts(contrasts.losses[known], contrasts.names, place[contrasts.rows[known]])
        features, prompt = self.features[self.inside], self.prompt[self.inside]
        found = find_attributes(features, prompt, there, self.seed)
        return [replace(one, q=self._everywhere(one.q)) for one in found]

    def _everywhere(self, q: np.ndarray) -> np.ndarray:
        every = np.zeros(len(self.prompt))
        every[self.inside] = q
        return every

    def own_columns(self, names: np.ndarray) -> Contrasts:
        """The excess as losses under every prompt, of which each image has its own alone."""
        own = self.prompt[self.scored][:, None] == names[None]
        centred = self.score.copy()
        for name in names:
            rows = self.prompt[self.scored] == name
            centred[rows] -= centred[rows].mean()
        return Contrasts((own * centred[:, None])[:, :, None], tuple(map(str, names)), self.scored)

    def same_skew(
        self, found: list[InferredAttribute], loss: np.ndarray, false_alarm: float
    ) -> list[InferredAttribute]:
        """The certain ones whose rare value is the same in every prompt and costs more there.

        Those that the features show most clearly first.
        """
        there = [one for one in found if one.certain(false_alarm) and self._costs_more(one, loss)]
        return sorted(there, key=lambda one: -one.negentropy)

    def _costs_more(self, attribute: InferredAttribute, loss: np.ndarray) -> bool:
        rare = attribute.share if attribute.share.mean() < 0.5 else 1 - attribute.share
        if not (rare.max() <= RAREST and rare.min() > 0):
            return False
        sign = 1.0 if attribute.share.mean() < 0.5 else -1.0
        for name in attribute.prompts:
            rows = self.prompt[self.scored] == name
            member, cost = sign * attribute.q[self.scored][rows], loss[rows]
            if np.ptp(member) < 1e-9 or np.ptp(cost) == 0:
                return False
            correlation = np.corrcoef(member, cost)[0, 1]
            if correlation <= 0 or correlation**2 < LEAST_OF_LOSS:
                return False
        return True

    def grouping(
        self,
        found: list[InferredAttribute] | tuple[InferredAttribute, ...],
        chosen: InferredAttribute | None,
        rules: Rules,
        score: str,
        ranked_by: str,
    ) -> Grouping:
        """The groups that the ``chosen`` attribute is, turned so that group 1 costs more."""
        shown = chosen or (found[0] if found else None)
        against, models, verdicts = np.zeros(len(self.prompt)), GroupModels(), {}
        for name in map(str, np.unique(self.prompt)):
            rows = self.prompt == name
            if shown is not None and name in shown.prompts:
                q, model = self._turned(shown, name, rows)
                against[rows], models[name] = q, model
            else:
                models[name] = nobody(self.features.shape[1])
            verdicts[name] = judge_prompt(against, self.score, self.scored, rows, chosen, rules)
        numbers = [
            one.measures.objective if ranked_by == RANKED_BY else one.negentropy for one in found
        ]
        ranking = tuple((one.id, number) for one, number in zip(found, numbers, strict=True))
        return Grouping(
            against,
            verdicts,
            models,
            chosen.id if chosen else "",
            ranking,
            score,
            ranked_by=ranked_by,
            attributes=tuple(found),
            stability=shown.stability if shown is not None else None,
        )

    def crossed(
        self,
        found: list[InferredAttribute],
        chosen: list[InferredAttribute],
        rules: Rules,
        score: str,
    ) -> Grouping:
        """The groups that the crossed values of the ``chosen`` attributes are; wanted are even."""
        count = 2 ** len(chosen)
        against = np.eye(count)[np.zeros(len(self.prompt), int)]
        models, names, verdicts = dict[str, MultiGroupModel](), {}, {}
        p_value = max(one.p_value for one in chosen)
        for name in map(str, np.unique(self.prompt)):
            rows = self.prompt == name
            if name in chosen[0].prompts:
                models[name], names[name] = cross(chosen, name, rows, rules.min_share)
                against[rows] = models[name](self.features[rows])
            else:
                models[name] = MultiGroupModel.alone(self.features.shape[1], count)
            inside = self.prompt[self.scored] == name
            member, values = against[self.scored][inside], self.score[inside]
            there = models[name].present
            verdicts[name] = judge_crossed(against[rows], member, values, there, p_value)
        return Grouping(
            against,
            verdicts,
            models,
            CROSSED.join(one.id for one in chosen),
            tuple((one.id, one.measures.objective) for one in found),
            score,
            names,
            RANKED_BY,
            tuple(found),
            min(one.stability for one in chosen),
        )

    def _turned(
        self, attribute: InferredAttribute, name: str, rows: np.ndarray
    ) -> tuple[np.ndarray, GroupModel]:
        """Memberships of a prompt's images with group 1 the one that costs the model more."""
        q, model = attribute.q[rows], attribute.models[name]
        inside = self.prompt[self.scored] == name
        member = attribute.q[self.scored][inside]
        if inside.sum() < 3 or np.cov(member, self.score[inside])[0, 1] >= 0:
            return q, model
        return 1 - q, model.flipped()


def nobody(width: int) -> GroupModel:
    """The model of a prompt without groups: everybody is in group 0."""
    return GroupModel(np.zeros(width), (0.0, 0.0, 0.0), float(logit(SMALLEST)))
