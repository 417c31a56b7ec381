"""What images cost under every prompt, and whether groups of them cost what a skew would.

Up to what is the same for all prompts, the losses of an image are -log p(y | image) at that noise
level. An attribute of which prompt y has the share pi_y shifts them by -logit pi_y, for all y at
once (docs/concepts/what-is-scored.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import logit

from invdiff.core.discovery.objective import MIXED, prompt_mutual_information
from invdiff.core.groups.features import centre_within_prompts

Losses = Float[np.ndarray, "scored condition level"]
Space = Float[np.ndarray, "scored contrast"]

LEAST_INFORMATION_IN_LINE = 0.05
MOSTLY = 0.75  # share of the prompts that must have both groups, where there are few
FEWEST = 3  # prompts that must have both groups, where there are many: two are always in line
SILENT = 0.025  # of the largest shift of any level: one with less says nothing of the groups
PURE = 0.9  # least share that such a prompt counts with: no model has learnt that it is all


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

    def log_odds_alignment(self, q: Float[np.ndarray, " scored"], prompt: np.ndarray) -> float:
        """How far the shift between the groups is the one that their shares imply, -1 to 1.

        The least cosine over the levels, without those at which the groups hardly differ
        (:data:`SILENT`): a plain attribute is seen through less noise whatever the prompt says,
        and what is left of the shift there is chance. 0 where too few prompts have both groups
        (:data:`FEWEST`, :data:`MOSTLY`) or the shares of these are alike
        (:data:`LEAST_INFORMATION_IN_LINE`). The log-odds of a prompt that has one
        group alone, as one that names an attribute, have no end:
        they are what the shift under it says, by the line through the prompts that have both, but
        at least those of :data:`PURE`.
        """
        known = [k for k, name in enumerate(self.names) if (prompt == name).any()]
        share = np.array([q[prompt == self.names[k]].mean() for k in known])
        mixed = (share >= MIXED) & (share <= 1 - MIXED)
        inside = np.isin(
            prompt, [self.names[k] for k, both in zip(known, mixed, strict=True) if both]
        )
        enough = mixed.sum() >= max(2, min(FEWEST, MOSTLY * len(known)))
        if (
            not enough
            or prompt_mutual_information(q[inside], prompt[inside]) < LEAST_INFORMATION_IN_LINE
        ):
            return 0.0
        apart = centre_within_prompts(q[:, None], prompt)[:, 0]
        shift = np.einsum("n,ncl->lc", apart, self._relative()[:, known])
        size = np.linalg.norm(shift - shift.mean(1, keepdims=True), axis=1)
        telling = shift[size >= SILENT * size.max()]
        return min(_cosine(-_odds(share, mixed, level), level) for level in telling)

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
            values = centre_within_prompts(relative[:, :, level], prompt)
            found = np.linalg.svd(values, full_matrices=False)[0]
            for k in range(len(self.names) - 1):
                yield f"contrast {k + 1} of level {level + 1}", found[:, k]
            for side in sides:
                one = ", ".join(
                    repr(name) for name, sign in zip(self.names, side, strict=True) if sign > 0
                )
                yield f"{one} against the rest at level {level + 1}", values @ side


def _odds(
    share: Float[np.ndarray, " prompt"],
    mixed: Bool[np.ndarray, " prompt"],
    shift: Float[np.ndarray, " prompt"],
) -> Float[np.ndarray, " prompt"]:
    """Log-odds of the shares; of prompts that are not ``mixed`` what their ``shift`` implies."""
    odds = logit(np.clip(share, MIXED, 1 - MIXED))
    slope, start = np.polyfit(odds[mixed], shift[mixed], 1)
    implied = (shift - start) / slope if slope < 0 else np.zeros(len(shift))
    side = np.where(share > 0.5, 1.0, -1.0)
    return np.where(mixed, odds, side * np.maximum(side * implied, logit(PURE)))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine of what is left of both without their means."""
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-30))


def _sides(count: int) -> list[Float[np.ndarray, " prompt"]]:
    """Prompts on two sides, as contrasts: every way for up to 5, else each against the rest."""
    if count > 5:
        return list(np.eye(count) - 1 / count)
    ways = [np.array((1.0, *rest)) for rest in product((1.0, -1.0), repeat=count - 1)]
    return [way - way.mean() for way in ways if np.ptp(way) > 0]
