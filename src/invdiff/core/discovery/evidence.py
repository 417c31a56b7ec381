"""What sources of a skew are looked for in: what pictures cost, and what the model sees in them.

Up to what is the same for all prompts, the losses of a picture are -log p(y | picture) at that
noise level. An attribute of which prompt y has the share pi_y shifts them by -logit pi_y, for all y
at once (docs/concepts/what-is-scored.md). So the losses less their mean over the prompts, the
contrasts, are a linear mixture of the attributes, and minus the log-odds of an attribute's shares
is its column.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logit
from sklearn.linear_model import RidgeCV

from invdiff.core.groups.features import centre_within_prompts

SMALLEST = 0.01
"""Log-odds are those of shares from here to 1 - SMALLEST: no model has learnt that it is all."""
FOLDS = 4
PENALTIES = tuple(np.geomspace(1e-3, 1, 7).tolist())
"""Ridge penalties to choose from, per picture; components have unit variance on the whole."""


@dataclass(frozen=True)
class Contrasts:
    """Losses of the pictures ``rows`` under each of some prompts, ``names``, at high noise levels.

    Means over noise draws, in v space. ``rows`` are ascending numbers of pictures; their own
    prompts need not be among the names.
    """

    losses: Float[np.ndarray, "row prompt level"]
    names: tuple[str, ...]
    rows: np.ndarray


@dataclass(frozen=True)
class CostEvidence:
    """Pictures with ``components`` of their features, and ``costs`` of the pictures ``rows``.

    ``prompt`` are numbers of ``names``. ``costs`` are losses under the prompts ``compared`` (also
    numbers), less their mean over all contrasted prompts where there are several, and less the mean
    of the pictures of one prompt. ``components`` are centred within prompts.
    """

    names: tuple[str, ...]
    prompt: Int[np.ndarray, " picture"]
    components: Float[np.ndarray, "picture component"]
    rows: Int[np.ndarray, " row"]
    costs: Float[np.ndarray, "row compared level"]
    compared: Int[np.ndarray, " compared"]

    @classmethod
    def of(
        cls,
        components: Float[np.ndarray, "picture component"],
        prompt: np.ndarray,
        contrasts: Contrasts,
    ) -> "CostEvidence":
        """The evidence of losses under several prompts, or under one, each picture's own."""
        names, codes = np.unique(prompt, return_inverse=True)
        losses = contrasts.losses
        several = losses.shape[1] > 1
        relative = losses - losses.mean(1, keepdims=True) if several else losses
        flat = relative.reshape(len(relative), -1)
        costs = centre_within_prompts(flat, codes[contrasts.rows]).reshape(relative.shape)
        known = [k for k, name in enumerate(contrasts.names) if name in set(names)]
        columns = known if several else [0]
        compared = np.searchsorted(names, [contrasts.names[k] for k in columns])
        return cls(
            tuple(str(name) for name in names),
            codes,
            components,
            contrasts.rows,
            costs[:, columns],
            compared,
        )

    @property
    def several(self) -> bool:
        """Whether the costs compare prompts."""
        return len(self.compared) > 1

    @cached_property
    def flat(self) -> Float[np.ndarray, "row cost"]:
        """The costs as one row for each picture."""
        return self.costs.reshape(len(self.costs), -1)

    @cached_property
    def total(self) -> float:
        """The sum of all squared costs, that of which shares are explained."""
        return float((self.flat**2).sum()) + 1e-30

    def part(self, pictures: np.ndarray) -> "CostEvidence":
        """The evidence of some of the ``pictures`` (ascending numbers)."""
        place = np.full(len(self.prompt), -1)
        place[pictures] = np.arange(len(pictures))
        there = place[self.rows] >= 0
        codes = self.prompt[pictures]
        inside = self.prompt[self.rows[there]]
        flat = centre_within_prompts(self.flat[there], inside)
        return CostEvidence(
            self.names,
            codes,
            centre_within_prompts(self.components[pictures], codes),
            place[self.rows[there]],
            flat.reshape(-1, *self.costs.shape[1:]),
            self.compared,
        )

    def shares(self, q: Float[np.ndarray, " picture"]) -> Float[np.ndarray, " prompt"]:
        """The mean membership under each prompt; one half where a prompt has no picture."""
        counts = np.bincount(self.prompt, minlength=len(self.names))
        sums = np.bincount(self.prompt, q, minlength=len(self.names))
        return np.where(counts > 0, sums / np.maximum(counts, 1), 0.5)

    def within(self, values: np.ndarray) -> np.ndarray:
        """``values`` of the rows less their mean over those of the same prompt."""
        table = values[:, None] if values.ndim == 1 else values
        return centre_within_prompts(table, self.prompt[self.rows]).reshape(values.shape)

    def log_odds(self, share: Float[np.ndarray, " prompt"]) -> Float[np.ndarray, " compared"]:
        """Minus the log-odds of the shares under the compared prompts, less their mean."""
        odds = -logit(share.clip(SMALLEST, 1 - SMALLEST))[self.compared]
        return odds - odds.mean()


@dataclass(frozen=True)
class Carrier:
    """Cross-fitted ridge regression on the components and the prompts, of all pictures."""

    evidence: CostEvidence

    @cached_property
    def design(self) -> Float[np.ndarray, "picture column"]:
        """Components, and a column for each prompt."""
        known = self.evidence
        return np.concatenate([known.components, np.eye(len(known.names))[known.prompt]], 1)

    @cached_property
    def fold(self) -> Int[np.ndarray, " picture"]:
        """The fold that each picture is left out in."""
        return np.random.default_rng(3).permutation(len(self.evidence.prompt)) % FOLDS

    def __call__(
        self,
        target: Float[np.ndarray, "row output"],
        penalty: float,
        weight: Float[np.ndarray, " row"] | None = None,
        rows: np.ndarray | slice = slice(None),
    ) -> tuple[Float[np.ndarray, "picture output"], Float[np.ndarray, "column output"]]:
        """What the fits foretell of pictures they have not seen, and the mean of their weights.

        ``target`` is known of the pictures ``rows``.
        """
        x, fold = self.design[rows], self.fold[rows]
        weight = np.ones(len(x)) if weight is None else weight
        heavy = x * weight[:, None]
        grams = [heavy[fold == k].T @ x[fold == k] for k in range(FOLDS)]
        sides = [heavy[fold == k].T @ target[fold == k] for k in range(FOLDS)]
        ridge = np.eye(x.shape[1]) * weight.sum() * penalty
        out = np.empty((len(self.fold), target.shape[1]))
        mean = np.zeros((x.shape[1], target.shape[1]))
        for k in range(FOLDS):
            found = np.linalg.solve(sum(grams) - grams[k] + ridge, sum(sides) - sides[k])
            out[self.fold == k] = self.design[self.fold == k] @ found
            mean = mean + found / FOLDS
        return out, mean

    @cached_property
    def penalty(self) -> float:
        """The one with which the components foretell the costs best."""
        costs = self.evidence.flat
        return self.best_penalty(costs / (costs.std() + 1e-12), None, self.evidence.rows)

    def best_penalty(
        self,
        target: Float[np.ndarray, "row output"],
        weight: Float[np.ndarray, " row"] | None,
        rows: np.ndarray | slice = slice(None),
    ) -> float:
        """The ridge penalty, per picture, whose fits foretell left-out pictures best."""
        x = self.design[rows]
        total = len(x) if weight is None else weight.sum()
        model = RidgeCV([penalty * total for penalty in PENALTIES], fit_intercept=False)
        return float(model.fit(x, target, sample_weight=weight).alpha_) / total
